"""Labels of one name, or of none, are named by the check; tables will number them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from voxflow.findings import FindingCollector
from voxflow.lint.listing import read_leniently

if TYPE_CHECKING:
    from pathlib import Path


def test_labels_of_one_name_are_told(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    labels = {"0": "background", "1": "liver", "2": "liver", "3": ""}
    path.write_text(json.dumps({"labels": labels, "training": [{"image": "a.nii"}]}))
    notes = FindingCollector(path)
    read_leniently(path, tmp_path, notes)
    assert [(finding.where, finding.message) for finding in notes.findings] == [
        ("labels.2", "value 2 is called 'liver', which is no name of its own; tables will say 'liver (2)'"),
        ("labels.3", "value 3 is called '', which is no name of its own; tables will say 'class_3'"),
    ]
