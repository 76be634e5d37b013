"""Writes the viewer: one HTML page that holds its images, and needs no network, no server and no graphics card."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from voxflow.colours import SOURCE_COLOURS
from voxflow.errors import LIBRARY_ERRORS, InputError, shorten
from voxflow.files import write_text
from voxflow.reporting import render_template
from voxflow.viewing.cases import encode_case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.viewing.cases import ViewerCase

TEMPLATE = "viewer.html.j2"
# Of all images of a page together: about 20 MB of CT.
MOST_VOXELS = 24_000_000
FEWEST_VOXELS = 200_000  # of a case, however many there are


def write_viewer(
    page: Path,
    title: str,
    cases: Sequence[ViewerCase],
    *,
    parent_page: str = "",
    remark: str = "",
    refused: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Write the page.

    Args:
        page: the file.
        title: its heading.
        cases: in the order in which they are offered; each is shown as finely as there is room for all.
        parent_page: address of the page that leads here; empty: none.
        remark: a sentence below the heading.
        refused: what could not even be read, with the reasons; the first of the failures.

    Returns:
        What could not be shown, with the reasons; the page lists it, too.

    Raises:
        OSError: the page could not be written.
    """
    encoded, failures = _encode_cases(cases)
    failures = dict(refused or {}) | failures
    parts = [part for case in encoded for part in (*case["channels"], *case["layers"])]
    blobs = [part["data"] for part in parts]
    for number, part in enumerate(parts):
        part["data"] = number
    content = {"cases": encoded, "sources": SOURCE_COLOURS}
    facts = {
        "title": title,
        "parent_page": parent_page,
        "remark": remark,
        "failures": failures,
        "count": len(encoded),
        "shown": [case["id"] for case in encoded],
        # No text of a case can end the script that holds it.
        "content": json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "blobs": blobs,
    }
    write_text(page, render_template(TEMPLATE, facts))
    return failures


def _encode_cases(cases: Sequence[ViewerCase]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What the page holds of each case, and of those that can't be shown the reason."""
    most_voxels = max(FEWEST_VOXELS, MOST_VOXELS // max(1, len(cases)))
    encoded, failures = [], {}
    for case in cases:
        try:
            encoded.append(encode_case(case, most_voxels))
        except (InputError, *LIBRARY_ERRORS, OSError) as error:
            # Without the path: it may hold a name.
            failures[case.id] = shorten(str(getattr(error, "message", None) or type(error).__name__))
    return encoded, failures
