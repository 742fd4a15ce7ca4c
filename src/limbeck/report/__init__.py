"""A finished run as one HTML page that people read, on a phone, in the dark or on paper.

    gather    what the store tells about the run
    mistakes  where student and teacher part, word by word
    view      that, as sentences, tables and figures
    charts    the plots; `drawing` makes them part of the page, `diagram` draws the layer plan
    page      all of it as HTML

The page needs nothing beside itself: no network, no script, no font.
"""

from pathlib import Path

from limbeck.artifact import disk_errors
from limbeck.errors import ArtifactError
from limbeck.report.gather import gather
from limbeck.report.page import render


def check_output(output: Path) -> None:
    """Refuse a place where no report can be written, and tell what is missing to make one.

    Raises:
        ArtifactError: It is a folder.
        ModuleNotFoundError: matplotlib or Jinja is not installed.
    """
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401

    if output.is_dir():
        raise ArtifactError(
            "is a folder", where=str(output), expected="the name of an HTML file", do="add one"
        )


def write_report(run: str, store: Path, output: Path) -> None:
    """Write the report of a finished run; the same bytes for the same run.

    Args:
        run: The run's name.
        store: Folder of artifacts; nothing is written there.
        output: The HTML file.

    Raises:
        ArtifactError: There is no such store or run, a file of it is damaged, or the output
            cannot be written.
        ModuleNotFoundError: matplotlib or Jinja is not installed.
    """
    check_output(output)
    page = render(gather(run, store))
    with disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8", newline="\n")
