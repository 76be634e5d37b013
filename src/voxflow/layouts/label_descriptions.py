"""Reads the names of label values that ITK-SNAP and 3D Slicer save as text files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

# ITK-SNAP: value, red, green, blue, opacity, visible, mesh visible, "name".
_ITKSNAP = re.compile(r'\s*(\d+)\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+[01]\s+[01]\s+"([^"]*)"\s*')
# 3D Slicer's colour tables: value, name without blanks, red, green, blue, opacity.
_SLICER = re.compile(r"\s*(\d+)\s+(\S+)\s+\d+\s+\d+\s+\d+\s+\d+\s*")


def read_label_descriptions(path: Path) -> dict[str, int] | None:
    """Read the names of label values.

    Args:
        path: a text file, as ITK-SNAP exports label descriptions or 3D Slicer saves a colour table (.ctbl).

    Returns:
        Value by name, without the background; None where the file is of neither form.

    Raises:
        DataError: the file is of one of the forms, and two values have one name.
    """
    try:
        text = read_text(path)
    except DataError:  # no UTF-8, and so neither program's
        return None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for form in (_ITKSNAP, _SLICER):
        matches = [form.fullmatch(line) for line in lines]
        if lines and all(matches):
            pairs = [
                (match[2].replace("_", " ") if form is _SLICER else match[2], int(match[1]))
                for match in matches
                if match
            ]
            names = {name: value for name, value in pairs if value != 0}
            if len(names) < sum(value != 0 for _, value in pairs):
                raise DataError("two values have one name", path=path)
            return names
    return None
