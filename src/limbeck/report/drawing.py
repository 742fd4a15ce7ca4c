"""From a matplotlib figure to an SVG that lives in a page: recoloured by CSS, sized by viewBox."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, ACCENT, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
PARTS = {"part-1": "#060606", "part-2": "#070707", "part-3": "#080808", "part-4": "#090909"}
ON_PARTS = {"part-1": "#0a0a0a", "part-2": "#0b0b0b", "part-3": "#0c0c0c", "part-4": "#0d0d0d"}
"""Colours to draw in; each stands for a CSS variable, so that light and dark are the page's."""

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    ACCENT: "--accent",
    PAPER: "--surface",
    **{colour: f"--{name}" for name, colour in PARTS.items()},
    **{colour: f"--on-{name}" for name, colour in ON_PARTS.items()},
}
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "limbeck",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    # A label of the user's may hold dollar signs.
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "path.simplify": True,
}
_PIXELS = 72
"""A figure's inch is 72 units of its viewBox: sizes here are CSS pixels at 100 %."""

_XLINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_KEPT_STYLE = re.compile(r"\s*font(-family|-size|-weight|-style)?:")


@contextmanager
def canvas(width: float, height: float, **margins: float) -> Iterator[tuple["Figure", "Axes"]]:
    """Give an empty figure with one frameless plot.

    Args:
        width: Of the whole, pixels.
        height: Of the whole, pixels.
        margins: `left`, `right`, `top`, `bottom` of the plot, pixels; 4 where not given.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # The browser has fonts of its own: only widths are guessed from this one.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width / _PIXELS, height / _PIXELS), dpi=_PIXELS)
        left, bottom = margins.get("left", 4) / width, margins.get("bottom", 4) / height
        axes = figure.add_axes(
            (
                left,
                bottom,
                1 - left - margins.get("right", 4) / width,
                1 - bottom - margins.get("top", 4) / height,
            )
        )
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, pad=6)
        yield figure, axes


def to_svg(figure: "Figure", name: str, *, title: str, description: str) -> str:
    """Give a figure as an `<svg>` element for HTML, the same bytes each time.

    Args:
        figure: What was drawn, inside `canvas`.
        name: Starts every id in it: a page holds many.
        title: What it shows, for those who cannot see it.
        description: What can be read off it.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing)
    root = ElementTree.fromstring(stream.getvalue())
    _remove(root, {"metadata", "style"})
    for element in root.iter():
        _clean(element, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        told = ElementTree.Element(tag, id=f"{name}-{tag}")
        told.text = text
        root.insert(place, told)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    return ElementTree.tostring(root, encoding="unicode")


def _remove(parent: ElementTree.Element, tags: set[str]) -> None:
    for child in list(parent):
        if _bare(child.tag) in tags:
            parent.remove(child)
        else:
            _remove(child, tags)


def _clean(element: ElementTree.Element, name: str) -> None:
    """Drop namespaces and fonts, give ids their own name, and colours their variable."""
    element.tag = _bare(element.tag)
    attributes = element.attrib
    target = attributes.pop(_XLINK, "")
    if target:
        attributes["href"] = f"#{name}-{target.removeprefix('#')}"
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    for attribute, value in attributes.items():
        attributes[attribute] = _REFERENCE.sub(rf"url(#{name}-\1)", value)
    if "style" in attributes:
        size = re.search(r"(\d+(?:\.\d+)?)px", attributes["style"])
        kept = [one for one in attributes["style"].split(";") if not _KEPT_STYLE.match(one)]
        if element.tag == "text" and size:
            kept.insert(0, f"font-size: {size[1]}px")
        attributes["style"] = ";".join(kept)
        for colour, variable in _VARIABLES.items():
            attributes["style"] = attributes["style"].replace(colour, f"var({variable})")
    if element.text is not None and not element.text.strip():
        element.text = None
    element.tail = None


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]
