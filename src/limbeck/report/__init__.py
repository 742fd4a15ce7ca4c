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
from limbeck.report.gather import gather
from limbeck.report.page import render


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
    page = render(gather(run, store))
    with disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8", newline="\n")
