"""Cases of several series: found by the model's rules; masks and their DICOM SEG lie on the reference channel."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from tests.dicom.objects import contour, save, structure_set
from tests.dicom.test_channel_cases import make_study
from tests.inference.models import volume_spec
from voxflow.dicom import ConvertOptions
from voxflow.engines import Engine
from voxflow.errors import ConfigError, DataError
from voxflow.inference import InferOptions, choose_channel_rules, find_cases, infer_cases
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec

RULES = ({"modality": "CT"}, {"modality": "PT"})
HOT, DENSE = 400.0, 300.0


class PetCtEngine(Engine):
    """A body that is hot in the PET or dense in the CT, and a tumour in it that is dense."""

    name = "torch"
    is_local = True

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        tumour = batch[:, :1] - np.float32(DENSE)
        return np.concatenate([np.maximum(batch[:, 1:2] - np.float32(HOT), tumour), tumour], axis=1)


def pet_ct_spec(**changes: Any) -> ModelSpec:
    values = {"channels": ("CT", "PET"), "rules": RULES, "onto": "PET", "regions": ((1, 2), (2,))} | changes
    return volume_spec(in_channels=2, class_names=("body", "tumour"), activation="sigmoid", **values)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Two patients, of whom the second lacks the PET."""
    folder = tmp_path / "in"
    make_study(folder, 1)
    ct = make_study(tmp_path / "other", 2)["CT"]
    ct.write(folder / "p2/CT")
    return folder


def infer(source: Path, spec: ModelSpec) -> tuple[Path, list[dict[str, str]]]:
    scratch, out = source.parent / "scratch", source.parent / "masks"
    scratch.mkdir()
    out.mkdir()
    inputs = find_cases(source, scratch, spec)
    options = InferOptions(overlays=1, plan="whole", back="labels")
    return out, infer_cases(PetCtEngine(spec), inputs.cases, out, options, refused=inputs.refused).failures.rows


def read_series(folder: Path) -> sitk.Image:
    files = sorted(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    return sitk.ReadImage([str(path) for path in files], sitk.sitkFloat32)


def expect_masks(folder: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Body and tumour (k, j, i) on the PET's grid, by SimpleITK alone."""
    ct, pet = read_series(folder / "CT"), read_series(folder / "PET")
    darkest = float(sitk.GetArrayViewFromImage(ct).min())
    ct_values = sitk.GetArrayFromImage(sitk.Resample(ct, pet, sitk.Transform(), sitk.sitkLinear, darkest))
    tumour = ct_values > DENSE
    return tumour | (sitk.GetArrayFromImage(pet) > HOT), tumour


def test_series_of_a_study_become_one_mask_on_the_pet(studies: Path) -> None:
    out, failures = infer(studies, pet_ct_spec())
    reason = "no case: lacks the channel PET of CT, PET: no series fits its rule"
    assert failures == [{"case": "refused study 1", "reason": reason}]
    (path,) = out.glob("*/*.nii.gz")
    mask = read_volume(path)
    body, tumour = expect_masks(studies / "p1")
    np.testing.assert_array_equal(mask.array.transpose(2, 1, 0), np.where(tumour, 2, np.where(body, 1, 0)))
    assert 0 < tumour.sum() < body.sum() < body.size


def test_dicom_seg_refers_to_the_reference_channel_and_its_segments_overlap(studies: Path) -> None:
    import highdicom

    out, _ = infer(studies, pet_ct_spec())
    (path,) = out.glob("*/*_seg.dcm")
    seg = highdicom.seg.segread(path)
    pet = [pydicom.dcmread(file) for file in (studies / "p1/PET").iterdir()]
    pet.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == pet[0].SeriesInstanceUID
    assert seg.FrameOfReferenceUID == pet[0].FrameOfReferenceUID
    assert [seg.get_segment_description(n).segment_label for n in (1, 2)] == ["body", "tumour"]
    uids = [image.SOPInstanceUID for image in pet]
    segments = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    for number, expected in enumerate(expect_masks(studies / "p1")):
        np.testing.assert_array_equal(segments[..., number] > 0, expected)


def test_rules_of_the_workspace_come_before_those_of_the_model() -> None:
    options = ConvertOptions.model_validate({"channels": {"CT": {"description": "native"}, "PET": {"modality": "PT"}}})
    assert choose_channel_rules(options, pet_ct_spec()) is options
    chosen = choose_channel_rules(ConvertOptions(mapping=False), pet_ct_spec())
    assert list(chosen.channels or {}) == ["CT", "PET"]
    assert chosen.mapping is False
    turned = ConvertOptions.model_validate({"channels": {"PET": {"modality": "PT"}, "CT": {"modality": "CT"}}})
    with pytest.raises(ConfigError, match="names PET, CT; the model takes CT, PET, in this order"):
        choose_channel_rules(turned, pet_ct_spec())
    with pytest.raises(DataError, match="knows no rules by which to find their series"):
        choose_channel_rules(ConvertOptions(), pet_ct_spec(rules=()))


def test_channels_of_two_patients_are_no_case(tmp_path: Path) -> None:
    for number, name in ((1, "CT"), (2, "PET")):
        make_study(tmp_path / "all", number)[name].write(tmp_path / f"in/{name}")
    with pytest.raises(DataError, match="lacks the channel"):
        infer(tmp_path / "in", pet_ct_spec())


def test_a_frame_of_reference_of_its_own_is_a_reason_but_where_the_training_took_it(tmp_path: Path) -> None:
    make_study(tmp_path / "in", 1, pet_frame="1.2.3.4")
    with pytest.raises(DataError, match="different frames of reference"):
        infer(tmp_path / "in", pet_ct_spec())
    for folder in ("scratch", "masks"):
        shutil.rmtree(tmp_path / folder)
    out, failures = infer(tmp_path / "in", pet_ct_spec(convert={"frame_of_reference": "any"}))
    assert not failures
    assert len(list(out.glob("*/*.nii.gz"))) == 1


def test_a_model_of_one_channel_takes_only_the_series_of_its_rule(tmp_path: Path) -> None:
    make_study(tmp_path / "in", 1)
    rule = {"channels": {"PET": {"modality": "PT"}}}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    inputs = find_cases(tmp_path / "in", scratch, volume_spec(convert=rule))
    (case,) = inputs.cases
    assert not inputs.refused
    assert read_volume(case.images[0]).geometry.size == read_series(tmp_path / "in/p1/PET").GetSize()
    assert not volume_spec().model_dump().keys() & {"convert", "rules"}


def test_options_of_the_training_hold_where_the_user_sets_none() -> None:
    options = ConvertOptions(mapping=False, pet="stated", min_slices=2, channels_of="study", workers=1)
    kept = options.list_for_model()
    assert kept == {"pet": "stated", "min_slices": 2}
    chosen = choose_channel_rules(ConvertOptions(mapping=False, min_slices=4), volume_spec(convert=kept))
    assert (chosen.pet, chosen.min_slices, chosen.mapping) == ("stated", 4, False)


def test_a_study_is_refused_once_whatever_is_wrong_in_it(studies: Path) -> None:
    """Two patients under one StudyInstanceUID each lack a channel, and a label that can't be used is no case."""
    study = generate_uid()
    ct = make_study(studies.parent / "third", 3, StudyInstanceUID=study)["CT"]
    pet = make_study(studies.parent / "fourth", 4, StudyInstanceUID=study)["PET"]
    ct.write(studies / "p3/CT")
    pet.write(studies / "p4/PET")
    stray = structure_set({"tumour": [contour(np.eye(3))]}, StudyInstanceUID=generate_uid(), PatientID="P9")
    save(stray, studies / "p9.dcm")
    _, failures = infer(studies, pet_ct_spec())
    assert [row["case"] for row in failures] == ["refused study 1", "refused study 2"]
    (twice,) = [row["reason"] for row in failures if "; " in row["reason"]]
    assert "lacks the channel PET" in twice
    assert "lacks the channel CT" in twice


def test_a_series_of_another_modality_than_the_trainings_is_no_channel(tmp_path: Path) -> None:
    changes = {"SeriesDescription": "abdomen"}
    make_study(tmp_path / "in", 1, **changes)
    rules = ({"description": "abdomen", "plane": "axial"}, {"modality": "PT"})
    spec = pet_ct_spec(rules=rules, modalities=("MR", "PT"))
    reason = r"lacks the channel CT of CT, PET: its rule asks for MR; all else fits series 2 \(CT\), series 3 \(PT\)"
    with pytest.raises(DataError, match=reason):
        infer(tmp_path / "in", spec)


def test_a_rule_of_another_modality_than_the_trainings_is_refused() -> None:
    spec = pet_ct_spec(rules=(), modalities=("CT", "PT"))
    rules = {"CT": {"modality": "MR"}, "PET": {"description": "pet"}}
    with pytest.raises(ConfigError, match=r"convert\.channels\.CT\.modality: asks for MR; the model was trained on CT"):
        choose_channel_rules(ConvertOptions.model_validate({"channels": rules}), spec)
    rules["CT"] = {"description": "ct"}
    chosen = choose_channel_rules(ConvertOptions.model_validate({"channels": rules}), spec).channels or {}
    assert [rule.modality for rule in chosen.values()] == ["CT", "PT"]


def test_modalities_are_in_no_model_of_one_image() -> None:
    assert "modalities" not in volume_spec().model_dump()
    assert pet_ct_spec(modalities=("CT", "PT")).model_dump()["modalities"] == ("CT", "PT")
    with pytest.raises(ValueError, match="1 modalities need as many channels; there are 2"):
        pet_ct_spec(modalities=("CT",))
