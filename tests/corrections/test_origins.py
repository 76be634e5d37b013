"""Masks of ours that people correct: those of the stage infer, and those of a model with several channels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from tests.corrections.clinic import NAMES, SHAPE, WORKSPACE, Clinic, edit, make_masks, shave, to_volume
from tests.dicom.objects import Series, random_values, save
from tests.dicom.test_channel_cases import PET_CT, make_study
from voxflow.dicom import ConvertOptions, convert_folder, find_sources, list_origins, write_segmentation
from voxflow.tables import read_rows
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from voxflow.places import Places


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    monkeypatch.chdir(tmp_path)
    return Clinic()


def convert(places: Places) -> dict[str, str]:
    """Convert the source as the stage does; the only case."""
    options = places.options_of("convert", ConvertOptions).model_copy(update={"mapping": False})
    shutil.rmtree(places.volumes, ignore_errors=True)
    convert_folder(places.source, places.volumes, options)
    (row,) = read_rows(places.volumes / "cases.csv") or []
    return row


def read_slices(path: Path) -> Any:
    """A volume as (slices, rows, columns)."""
    return read_volume(path).array.transpose(2, 1, 0)


def infer(clinic: Clinic) -> Path:
    """A case without a label in the source, with the mask that the stage infer made of it."""
    changes = {"StudyInstanceUID": "1.2.840.99.4"}
    files = Series(random_values(SHAPE), uid="1.2.840.99.4.1", frame="1.2.840.99.4.9", changes=changes).write(
        clinic.places.source / "images"
    )
    case = convert(clinic.places)["case"]
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for value, name in NAMES.items():
        labels[make_masks()[name]] = value
    path = clinic.places.evaluation / f"infer/{case}/{case}_seg.dcm"
    write_segmentation(path, to_volume(labels, files), files, NAMES)
    return path


def test_a_mask_of_the_stage_infer_becomes_the_label_of_its_case(clinic: Clinic) -> None:
    mask = infer(clinic)
    row = clinic.take(edit(mask, shave))
    assert (row.state, row.case, row.version) == ("label", mask.parent.name, "1"), row.reason
    source = clinic.places.source / "corrections"
    assert [path.name for path in source.rglob("*.dcm")] == ["label_1.dcm"], "the source has the images already"
    case = convert(clinic.places)
    expected = make_masks()
    expected["Spleen"][:, 11] = False
    label = read_slices(clinic.places.volumes / case["label"])
    numbers = {
        name.casefold(): int(n) for n, name in json.loads((clinic.places.volumes / "labels.json").read_text()).items()
    }
    assert all(np.array_equal(label == numbers[name.casefold()], expected[name]) for name in expected)


def test_a_further_version_is_known_when_the_stage_infer_has_forgotten_the_case(clinic: Clinic) -> None:
    mask = infer(clinic)
    clinic.take(edit(mask, shave), "first.dcm")
    further = edit(mask, lambda frames, _: frames.fill(0), minutes=30)
    convert(clinic.places)  # the case has a label now, and goes to training
    shutil.rmtree(mask.parent)
    row = clinic.take(further, "second.dcm")
    assert (row.state, row.version) == ("label", "2"), row.reason
    assert [row.state for row in clinic.open_desk().table.rows] == ["superseded", "label"]
    assert not read_slices(clinic.places.volumes / convert(clinic.places)["label"]).any()


def test_a_further_version_finds_its_images_when_the_inbox_was_emptied(clinic: Clinic) -> None:
    mask = clinic.find_mask(clinic.make_image(1))
    clinic.take(edit(mask, shave), "first.dcm")
    convert(clinic.places)
    shutil.rmtree("data/inbox")
    row = clinic.take(edit(mask, lambda frames, _: frames.fill(0), minutes=30), "second.dcm")
    assert (row.state, row.version) == ("label", "2"), row.reason
    assert not read_slices(clinic.places.volumes / convert(clinic.places)["label"]).any()


def test_a_correction_on_one_of_several_channels_brings_all_of_them(clinic: Clinic, tmp_path: Path) -> None:
    clinic.block = clinic.block | {"convert": {"pseudonym_key": "key", "workers": 1, "channels": PET_CT}}
    clinic.write_params()
    study = make_study(tmp_path / "scanner")
    uid = str(study["CT"].changes["StudyInstanceUID"])
    inbox = Path(f"data/inbox/{WORKSPACE}/{uid}")
    files = {name: series.write(inbox / series.uid) for name, series in study.items()}
    answer = Path(f"data/answers/{WORKSPACE}/{uid}")
    path, values = answer / "c_1/c_1_seg.dcm", np.zeros((4, 5, 6), np.uint8)
    values[1:3, 1:4, 1:4] = 1
    volume = to_volume(values, files["PET"])
    write_segmentation(path, Volume(volume.array, volume.geometry), files["PET"], {1: "Tumour"})
    instances = {series.uid: len(files[name]) for name, series in study.items()}
    note = {"study_uid": uid, "instances": instances, "model": "pet_ct", "files": ["c_1/c_1_seg.dcm"]}
    (answer / "answer.json").write_text(json.dumps(note))

    row = clinic.take(edit(path, lambda frames, _: frames.__setitem__((slice(None), 1), 0)))
    assert (row.state, row.unit) == ("label", uid), row.reason
    (change,) = clinic.classes()
    assert float(change["dice"]) == pytest.approx(2 * 12 / (12 + 18))
    case = convert(clinic.places)
    assert len(case["image"].split(";")) == 2
    values[:, 1] = 0
    # The conversion keeps the label's own grid, that of the PET.
    label = sitk.ReadImage(str(clinic.places.volumes / case["label"]))
    assert label.GetSize() == (6, 5, 4)
    assert np.array_equal(sitk.GetArrayFromImage(label), values)
    origins = list_origins(case)
    assert len(find_sources(clinic.places.source, origins, ConvertOptions())) == 2
    again = pydicom.dcmread(path)
    assert clinic.open_desk().take(save(again, Path("drop/as-sent.dcm"))) is None
