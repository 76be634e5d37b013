"""The file case_form.json: what makes a case more than one image with classes that exclude each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.files import read_text, write_json
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CASE_FORM = "case_form.json"


def write_case_form(folder: Path, channels: Sequence[str], regions: Mapping[str, Sequence[int]]) -> None:
    """Write the form beside labels.json, where one is needed.

    Args:
        folder: the conversion's target.
        channels: names of the channels, in the model's order; none of a single one.
        regions: the label values of each class, where a voxel may belong to several; else none.
    """
    form = {"channels": list(channels), "regions": {name: list(values) for name, values in regions.items()}}
    content = {key: value for key, value in form.items() if value}
    if content:
        write_json(folder / CASE_FORM, content)


def read_regions(folder: Path) -> dict[str, tuple[int, ...]]:
    """Read the label values of each region.

    Args:
        folder: that holds labels.json.

    Returns:
        Values by name, in the order of the model's channels; none where classes exclude each other.

    Raises:
        DataError: the file has another form.
    """
    path = folder / CASE_FORM
    if not path.is_file():
        return {}
    content = parse_json(read_text(path), path)
    try:
        return {str(name): tuple(int(value) for value in values) for name, values in content.get("regions", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError('expected label values by name: {"tumour": [1, 2]}', path=path, where="regions") from error
