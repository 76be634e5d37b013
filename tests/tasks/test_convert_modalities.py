"""One patient with a CT, an MR and a PET, each with a structure set: three workspaces, and three clean cases."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tasks import convert
from tasks.common.stage import main
from tests.dicom.objects import Series, contour, random_values, save, structure_set
from tests.tables import read_table
from voxflow.volumes import read_volume

MODALITIES = {"CT": "Bone", "MR": "Nerve", "PT": "Lesion"}
BOX = np.array([[0.6, 0.8, 0], [5.4, 0.8, 0], [5.4, 8.2, 0], [0.6, 8.2, 0]])


def write_patient(folder: Path, *, in_one_object: bool) -> None:
    """All in one frame of reference, as after registration; image ``n`` is labelled in its slice ``n`` alone."""
    rois, images = {}, []
    for n, (modality, roi) in enumerate(MODALITIES.items(), start=1):
        tags: dict[str, Any] = {"Modality": modality} | ({"Units": "BQML"} if modality == "PT" else {})
        series = Series(random_values(seed=n).clip(0), uid=f"1.2.{n}", changes=tags)
        series.write(folder / modality)
        images.append(series.datasets())
        rois[roi] = [contour(BOX + np.array([0, 0, 2.0 * n]), images[-1][n])]
    if in_one_object:
        save(structure_set(rois, [image for members in images for image in members]), folder / "rt")
        return
    for members, (roi, contours) in zip(images, rois.items(), strict=True):
        save(structure_set({roi: contours}, members), folder / roi)


@pytest.mark.parametrize("in_one_object", [False, True], ids=["three structure sets", "one of all"])
def test_each_workspace_has_the_label_of_its_modality_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_object: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    write_patient(Path("data/raw/all"), in_one_object=in_one_object)
    blocks = {
        modality.lower(): {
            "task": "segmentation",
            "source": "data/raw/all",
            "convert": {"modalities": [modality], "pseudonym_key": "synthetic", "workers": 1},
        }
        for modality in MODALITIES
    }
    Path("params.yaml").write_text(yaml.safe_dump({"workspaces": blocks}))
    for n, (modality, roi) in enumerate(MODALITIES.items(), start=1):
        monkeypatch.setattr(sys, "argv", ["convert", modality.lower()])
        assert main("convert", convert.run, key="workspaces") == 0
        folder = Path("data/volumes") / modality.lower()
        (case,) = read_table(folder / "cases.csv")
        assert (case["modality"], case["series_uid"]) == (modality, f"1.2.{n}")
        assert json.loads((folder / "labels.json").read_text()) == {"0": "background", "1": roi}
        label = read_volume(folder / case["label"]).array
        assert np.flatnonzero(label.any(axis=(0, 1))).tolist() == [n]
        assert int(label.sum()) == 5 * 5
        reasons = [row["reason"] for row in read_table(folder / "conversion.csv") if row["modality"] == "RTSTRUCT"]
        others = sorted(
            f"its image is left out: modality {m} is not among {modality}" for m in MODALITIES if m != modality
        )
        assert sorted(reasons) == ["", *others]
