"""One study of two channels gives one mask and one DICOM SEG by every door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

from tests.dicom.test_channel_cases import make_study
from tests.inference.models import UNET, build_seeded
from tests.inference.test_dicom_channels import pet_ct_spec
from tests.serving.uploads import zip_files
from tests.tables import read_table
from voxflow.components import Component
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.engines import open_engine
from voxflow.evaluation import EvaluateOptions, evaluate_segmentation
from voxflow.executor import Threads
from voxflow.geometry import Geometry
from voxflow.inference import (
    InferenceCase,
    InferOptions,
    ModelFolders,
    attach_sources,
    choose_channel_rules,
    find_cases,
    find_native_cases,
    infer_cases,
    infer_on_executor,
)
from voxflow.serving import ServeLimits
from voxflow.serving.work import answer_request
from voxflow.training import save_model
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Door = Callable[[Path, Path, Path], tuple[NDArray[Any], NDArray[Any]]]

OPTIONS = InferOptions(overlays=0, plan="whole", engine="torch", back="labels")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    component = Component(name=UNET.name, args=UNET.args | {"in_channels": 2})
    folder = tmp_path_factory.mktemp("model")
    spec = pet_ct_spec(
        preprocess=({"name": "CenterData", "args": {"fields": "image", "subtrahend": 0.0, "divisor": 500.0}},)
    )
    save_model(folder / "model.pt", build_seeded(component), component, spec=spec, epoch=1, metric=0.5)
    return folder / "model.pt"


def read_results(out: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    (mask,), (seg,) = out.glob("*/*.nii.gz"), out.glob("*/*_seg.dcm")
    return read_volume(mask).array, pydicom.dcmread(seg).pixel_array


def by_command(model: Path, study: Path, out: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    engine = open_engine(model, "torch")
    (out / "work").mkdir()
    (out / "masks").mkdir()
    cases = find_cases(study, out / "work", engine.spec).cases
    infer_cases(engine, cases, out / "masks", OPTIONS)
    return read_results(out / "masks")


def list_native_cases(model: Path, study: Path, out: Path) -> list[InferenceCase]:
    """As the stages convert and infer find them."""
    options = choose_channel_rules(ConvertOptions(mapping=False, workers=1), open_engine(model, "torch").spec)
    convert_folder(study, out / "volumes", options)
    names = [row["case"] for row in read_table(out / "volumes/cases.csv")]
    return attach_sources(
        find_native_cases([(name, None) for name in names], out / "volumes", is_mask=False), study, options
    )


def by_stage(model: Path, study: Path, out: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    (out / "masks").mkdir()
    infer_cases(open_engine(model, "torch"), list_native_cases(model, study, out), out / "masks", OPTIONS)
    return read_results(out / "masks")


def by_worker(model: Path, study: Path, out: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    (out / "masks").mkdir()
    models = ModelFolders((model,), "torch")
    infer_on_executor(Threads(1), models, list_native_cases(model, study, out), out / "masks", OPTIONS)
    return read_results(out / "masks")


def by_service(model: Path, study: Path, out: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    files = {str(n): path.read_bytes() for n, path in enumerate(sorted(study.rglob("F*")))}
    (out / "upload").write_bytes(zip_files(files))
    answer_request(open_engine(model, "torch"), out, OPTIONS, ServeLimits(), "auto")
    return read_results(out / "out")


@pytest.mark.parametrize("door", [by_stage, by_worker, by_service], ids=lambda door: door.__name__)
def test_every_door_gives_the_mask_and_the_segments_of_the_command(tmp_path: Path, model: Path, door: Door) -> None:
    make_study(tmp_path / "study", 1)
    results = []
    for way in (by_command, door):
        out = tmp_path / way.__name__
        out.mkdir()
        results.append(way(model, tmp_path / "study", out))
    assert 0 < np.count_nonzero(results[0][0]) < results[0][0].size
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluation_takes_a_label_that_was_drawn_on_another_channel(tmp_path: Path) -> None:
    """The box ends on faces of the PET's voxels, so that the label is the same on both grids."""
    from tests.inference.test_channels import DifferenceEngine, spec_of

    fine = Geometry.from_parts((40, 40, 20), (1, 1, 1), (-0.5, -0.5, -0.5))
    coarse = Geometry.from_parts((20, 20, 10), (2, 2, 2))
    label, pet = np.zeros(fine.size, np.uint8), np.zeros(coarse.size, np.float32)
    label[8:24, 10:20, 4:12] = 1
    pet[4:12, 5:10, 2:6] = 1
    write_volume(tmp_path / "label.nii.gz", Volume(label, fine))
    write_volume(tmp_path / "ct.nii.gz", Volume(np.full(fine.size, 0.5, np.float32), fine))
    write_volume(tmp_path / "pet.nii.gz", Volume(pet, coarse))
    case = InferenceCase("a", (tmp_path / "ct.nii.gz", tmp_path / "pet.nii.gz"), tmp_path / "label.nii.gz")
    for name in ("masks", "overlays"):
        (tmp_path / "out" / name).mkdir(parents=True)
    options = EvaluateOptions(plan="whole", bootstrap=0)
    engine = DifferenceEngine(spec_of("CT", "PET", onto="PET"))
    result = evaluate_segmentation(engine, [case], tmp_path / "out", options)
    assert result.metrics["mean_dice"] == 1
    assert read_volume(tmp_path / "out/masks/a.nii.gz").geometry.is_close(coarse)
