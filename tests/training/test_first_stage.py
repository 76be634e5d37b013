"""The first of two stages as a training takes it: masks by its record, and models that go into the model file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.training.conftest import write_cube
from voxflow.components import Component, build_network, list_first_stages
from voxflow.datalist import Datalist
from voxflow.errors import DataError
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.spec import ModelSpec, TransformSpec
from voxflow.training import (
    FirstStage,
    PreviousCase,
    PreviousRecord,
    attach_masks,
    digest_file,
    load_model,
    read_previous_record,
    read_weights,
    save_model,
)
from voxflow.training.digests import digest_case
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

SPEC = ModelSpec(task="segmentation", class_names=("background", "liver"), activation="softmax", spacing_mm=(2, 2, 2))
UNET = {"nf_enc": [4, 8], "strides": [[2, 2, 2]], "num_classes": 2}


def write_masks(folder: Path) -> tuple[Datalist, PreviousRecord]:
    """Two cases to learn from, held out by fold 1, and one to validate on, held out by fold 2."""
    cases = [write_cube(folder, name, seed) for seed, name in enumerate("abc")]
    for number, case in enumerate(cases):
        mask = np.full((24, 20, 16), number % 2, np.uint8)
        write_volume(folder / f"masks/{case.id}.nii.gz", Volume(mask, Geometry.from_parts((24, 20, 16), (1, 1, 2))))
    digests = {case.id: digest_file(folder / f"masks/{case.id}.nii.gz") for case in cases}
    entries = {name: PreviousCase(fold=2 if name == "c" else 1, mask=digest) for name, digest in digests.items()}
    record = PreviousRecord(workspace="low", values=(1,), models={1: "x", 2: "y"}, cases=entries)
    parts = {"training": tuple(cases[:2]), "validation": (cases[2],), "testing": ()}
    return Datalist(folder / "dataset_0.json", folder, parts), record


def test_cases_get_their_masks_and_count_by_them(tmp_path: Path) -> None:
    datalist, record = write_masks(tmp_path)
    attached = attach_masks(datalist, record, tmp_path / "masks")
    masks = [case.previous for key in ("training", "validation") for case in attached.parts[key]]
    assert masks == [tmp_path / f"masks/{name}.nii.gz" for name in "abc"]
    assert attach_masks(datalist, record, tmp_path / "masks", fold=2) == attached
    case = attached.parts["training"][0]
    assert digest_case(case) != digest_case(replace(case, previous=None))
    assert digest_case(replace(case, previous=None)) == digest_case(datalist.parts["training"][0])


def test_a_fold_that_holds_out_other_cases_is_refused(tmp_path: Path) -> None:
    datalist, record = write_masks(tmp_path)
    with pytest.raises(DataError, match=r"fold 1 holds out other cases than that of low, such as a, b, c; give both"):
        attach_masks(datalist, record, tmp_path / "masks", fold=1)
    with pytest.raises(DataError, match="low has no fold 3"):
        attach_masks(datalist, record, tmp_path / "masks", fold=3)


def test_a_case_of_testing_that_the_first_stage_has_learnt_from_is_refused(tmp_path: Path) -> None:
    datalist, record = write_masks(tmp_path)
    a, b = datalist.parts["training"]
    moved = replace(datalist, parts={**datalist.parts, "training": (a,), "testing": (b,)})
    with pytest.raises(DataError, match=r"leakage: low has learnt from b, which testing holds; run the stage previous"):
        attach_masks(moved, record, tmp_path / "masks")


def test_what_has_changed_since_is_refused(tmp_path: Path) -> None:
    datalist, record = write_masks(tmp_path)
    (tmp_path / "masks/a.nii.gz").write_bytes((tmp_path / "masks/b.nii.gz").read_bytes())
    with pytest.raises(DataError, match=r"a.nii.gz: the first stage's mask is not the mask that previous.json names"):
        attach_masks(datalist, record, tmp_path / "masks")
    (tmp_path / "masks/a.nii.gz").unlink()
    with pytest.raises(DataError, match=r"a.nii.gz: the first stage's mask is missing; run the stage previous again"):
        attach_masks(datalist, record, tmp_path / "masks")


def test_a_case_without_a_mask_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datalist, record = write_masks(tmp_path)
    fewer = record.model_copy(update={"cases": {name: case for name, case in record.cases.items() if name != "a"}})
    attached = attach_masks(datalist, fewer, tmp_path / "masks")
    assert [case.id for case in attached.parts["training"]] == ["b"]
    assert "left out of training, since low made no mask: a" in capsys.readouterr().err
    with pytest.raises(DataError, match="low made no mask of any case to learn from"):
        attach_masks(datalist, record.model_copy(update={"cases": {}}), tmp_path / "masks")


def test_a_record_that_is_not_there_or_of_another_workspace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "previous.json"
    with pytest.raises(DataError, match=r"the masks of low are not there; dvc repro previous@high makes them"):
        read_previous_record(path, "high", "low")
    _, record = write_masks(tmp_path)
    write_json(path, record.model_dump(mode="json"))
    assert read_previous_record(path, "high", "low") == record
    with pytest.raises(DataError, match=r"of the workspace low, but train.previous is other"):
        read_previous_record(path, "high", "other")
    path.write_text('{"workspace": "low"}')
    with pytest.raises(DataError, match="no record of a first stage"):
        read_previous_record(path, "high", "low")


def write_network(path: Path, channels: int, first_stage: FirstStage | None = None) -> torch.nn.Module:
    component = Component(name="PlainUnet", args={**UNET, "in_channels": channels})
    network = build_network(component).eval()
    spec = SPEC.model_copy(update={"in_channels": channels})
    save_model(path, network, component, spec=spec, epoch=1, metric=math.nan, first_stage=first_stage)
    return network


def test_a_model_file_holds_both_stages(tmp_path: Path) -> None:
    files = [tmp_path / "1.pt", tmp_path / "2.pt"]
    firsts = [write_network(file, 1) for file in files]
    stage = FirstStage.read(files, (1,), [digest_file(file) for file in files])
    last = write_network(tmp_path / "model.pt", 2, stage)
    network, spec = load_model(tmp_path / "model.pt")
    assert spec.previous is not None
    assert (spec.in_channels, spec.image_count, spec.previous.values, spec.previous.spec) == (2, 1, (1,), SPEC)
    image = torch.randn(1, 2, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(image), last(image))
        for loaded, saved in zip(list_first_stages(network), firsts, strict=True):
            torch.testing.assert_close(loaded(image[:, :1]), saved(image[:, :1]))
    # Another training begins from the second stage alone.
    assert set(read_weights(tmp_path / "model.pt")) == set(last.state_dict())


def test_models_of_other_windows_or_of_own_classes_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / "1.pt", tmp_path / "2.pt"]
    for file, window in zip(files, ((8, 8, 8), (16, 8, 8)), strict=True):
        component = Component(name="PlainUnet", args={**UNET, "in_channels": 1})
        spec = SPEC.model_copy(update={"window": window})
        save_model(file, build_network(component), component, spec=spec, epoch=1, metric=math.nan)
    with pytest.raises(DataError, match=r"2.pt: trained otherwise than .*1.pt, by its window"):
        FirstStage.read(files, (1,))
    own = SPEC.model_copy(update={"preprocess": (TransformSpec(name="Mine", path="mine.Mine"),)})
    save_model(files[0], build_network(component), component, spec=own, epoch=1, metric=math.nan)
    with pytest.raises(DataError, match=r"1.pt: it holds Mine, a class of your own"):
        FirstStage.read(files[:1], (1,))


def test_a_model_that_has_changed_is_refused(tmp_path: Path) -> None:
    write_network(tmp_path / "1.pt", 1)
    with pytest.raises(DataError, match=r"1.pt: not the model that previous.json names; run the stage previous again"):
        FirstStage.read([tmp_path / "1.pt"], (1,), ["0" * 32])
    with pytest.raises(DataError, match=r"2.pt: not the model"):
        FirstStage.read([tmp_path / "2.pt"], (1,), ["0" * 32])
