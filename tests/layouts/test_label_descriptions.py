"""Names of label values as ITK-SNAP and 3D Slicer save them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voxflow.errors import DataError
from voxflow.layouts import read_label_descriptions

if TYPE_CHECKING:
    from pathlib import Path

ITKSNAP = """################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "spleen"
    7     0  255    0        1  1  1    "left kidney"
"""
SLICER = """# Color table file
0 Background 0 0 0 0
1 spleen 255 0 0 255
7 left_kidney 0 255 0 255
"""


@pytest.mark.parametrize("text", [ITKSNAP, SLICER])
def test_names_of_values(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    assert read_label_descriptions(path) == {"spleen": 1, "left kidney": 7}


def test_other_text_is_none(tmp_path: Path) -> None:
    path = tmp_path / "readme.txt"
    path.write_text("1 spleen was drawn by two readers\n")
    assert read_label_descriptions(path) is None


def test_two_values_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(ITKSNAP.replace("left kidney", "spleen"))
    with pytest.raises(DataError, match="two values have one name"):
        read_label_descriptions(path)
