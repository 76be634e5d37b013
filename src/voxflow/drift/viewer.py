"""Writes the viewer of incoming studies beside the page of their drift, where params.yaml asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.viewing import ConvertedCases, write_viewer

if TYPE_CHECKING:
    from pathlib import Path

INCOMING_VIEWER = "incoming_viewer.html"


def write_incoming_viewer(converted: Path, folder: Path, most: int) -> tuple[str, ...]:
    """Write the viewer, or remove that of an earlier check, which holds images of other studies.

    Args:
        converted: holds cases.csv, and the files that it names.
        folder: of the drift page.
        most: no more cases than so many.

    Returns:
        The names of the cases that the viewer shows.

    Raises:
        OSError: the page could not be written.
    """
    page = folder / INCOMING_VIEWER
    page.unlink(missing_ok=True)
    if not most:
        return ()
    cases = ConvertedCases.read(converted)
    names = list(cases.rows)[:most]
    remark = f"the first {most} of {len(cases.rows)}" if len(cases.rows) > most else ""
    viewer_cases = [cases.open_case(name) for name in names]
    failures = write_viewer(page, "Incoming studies", viewer_cases, parent_page="drift.html", remark=remark)
    return tuple(name for name in names if name not in failures)
