"""A model that was trained in two stages: the second network is shown the mask that those of the first make."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from voxflow.components import Component, build_network
from voxflow.engines import TorchEngine, open_engine
from voxflow.export import ExportOptions, export_model
from voxflow.geometry import Geometry
from voxflow.prediction import Ensemble, PredictOptions, open_ensemble, predict_prepared, predict_volume, prepare_image
from voxflow.prediction.preparation import show_mask
from voxflow.spec import ModelSpec
from voxflow.training import FirstStage, load_model, save_model
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("background", "liver", "tumour")


def write_network(
    path: Path, seed: int, mm: float, first_stage: FirstStage | None = None, profile: dict[str, int] | None = None
) -> None:
    """A network of random weights that is sure of its answers, of one spacing; the profile is of its cases."""
    torch.manual_seed(seed)
    channels = 1 if first_stage is None else 3
    args = {"nf_enc": [4, 8], "strides": [[2, 2, 2]], "num_classes": 3, "in_channels": channels}
    component = Component(name="PlainUnet", args=args)
    spec = ModelSpec(
        task="segmentation",
        class_names=NAMES,
        activation="softmax",
        spacing_mm=(mm, mm, mm),
        orientation="LPS",
        in_channels=channels,
        window=(8, 8, 8),
        divisor=2,
        mirrored=("i",),
        profile=profile or {},
    )
    save_model(path, build_network(component), component, spec=spec, epoch=1, metric=math.nan, first_stage=first_stage)


@pytest.fixture
def image() -> Volume:
    grid = Geometry.from_parts((18, 16, 14), (1.1, 1.3, 1.7), (4, -5, 6))
    return Volume(np.random.default_rng(0).normal(size=grid.size).astype(np.float32), grid)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two models of a first stage in one file with that of the second."""
    return write_cascade(tmp_path / "one", (1, 2))


def write_cascade(folder: Path, seeds: tuple[int, ...]) -> Path:
    folder.mkdir()
    files = [folder / f"first_{seed}.pt" for seed in seeds]
    for seed, file in zip(seeds, files, strict=True):
        write_network(file, seed, 2.9, profile={"cases": seed})
    write_network(folder / "model.pt", 10 + seeds[0], 1.5, FirstStage.read(files, (1, 2)))
    return folder / "model.pt"


def test_the_network_is_shown_what_the_first_stage_says_together(model: Path, image: Volume, tmp_path: Path) -> None:
    engine = open_engine(model, "torch")
    first = Ensemble([TorchEngine(model.with_name(f"first_{seed}.pt")) for seed in (1, 2)])
    options = PredictOptions(flips="auto")
    mask = predict_volume(first, image, options).mask
    assert len(np.unique(mask.array)) == 3
    prepared = prepare_image([image], engine.spec)
    shown = show_mask(prepared, mask.array, engine.spec, mask.geometry)
    write_volume(tmp_path / "mask.nii.gz", mask)
    write_volume(tmp_path / "grid.nii.gz", Volume(np.asarray(prepared.image[0]), prepared.grid))
    reference = sitk.Resample(
        sitk.ReadImage(str(tmp_path / "mask.nii.gz")),
        sitk.ReadImage(str(tmp_path / "grid.nii.gz")),
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
        9,
    )
    expected = sitk.GetArrayFromImage(reference).transpose(2, 1, 0)
    is_inside = expected != 9
    assert is_inside.mean() > 0.7
    for channel, value in ((1, 1), (2, 2)):
        np.testing.assert_array_equal(np.asarray(shown.image)[channel][is_inside], (expected == value)[is_inside])
    answer = predict_prepared(engine, shown, options).mask.array
    np.testing.assert_array_equal(answer, predict_volume(engine, image, options).mask.array)
    # The mask decides: with another one the answer is another one.
    other = show_mask(prepared, np.zeros_like(mask.array), engine.spec)
    assert not np.array_equal(answer, predict_prepared(engine, other, options).mask.array)


def test_tensors_give_the_masks_of_arrays(model: Path, image: Volume) -> None:
    engine = TorchEngine(model)
    prepared = prepare_image([image], engine.spec, "cpu")
    tensors = predict_prepared(engine, prepared, PredictOptions()).mask.array
    assert (predict_volume(engine, image).mask.array == tensors).mean() > 0.999


def test_folds_of_two_stages_answer_together_in_both(image: Volume, tmp_path: Path) -> None:
    models = [write_cascade(tmp_path / name, seeds) for name, seeds in (("one", (1,)), ("two", (2,)))]
    ensemble = open_ensemble([model.parent for model in models], "torch")
    assert len(ensemble.previous) == 2
    first = Ensemble([TorchEngine(model.with_name(f"first_{n}.pt")) for n, model in enumerate(models, 1)])
    mask = predict_volume(first, image).mask
    shown = show_mask(prepare_image([image], ensemble.spec), mask.array, ensemble.spec)
    expected = predict_prepared(ensemble, shown, PredictOptions()).mask.array
    np.testing.assert_array_equal(predict_volume(ensemble, image).mask.array, expected)


def test_each_network_is_exported_to_a_file_of_its_own(model: Path, image: Volume, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    out.mkdir()
    report = export_model(model, out, ExportOptions(engines=("onnx",)), [], on_noise=True)
    report.require_published()
    assert {path.name for path in out.glob("*.onnx")} == {"model.onnx", "model-2of3.onnx", "model-3of3.onnx"}
    engine = open_engine(out, "onnxruntime")
    assert len(engine.previous) == 2
    received, expected = (predict_volume(each, image).mask.array for each in (engine, TorchEngine(model)))
    assert len(np.unique(expected)) == 3
    assert (received == expected).mean() > 0.999


def test_a_spec_says_which_cascades_there_are(model: Path) -> None:
    spec = load_model(model)[1]
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.of_image.in_channels == 1
    assert spec.previous is not None
    resampled = {**spec.previous.model_dump(), "mask": {"order": 1}}
    with pytest.raises(ValueError, match="has a resampling of nnU-Net where it is an adopted nnU-Net, else none"):
        ModelSpec.model_validate({**spec.model_dump(), "previous": resampled})
    third = {"spec": spec.model_dump(), "values": (1, 2)}
    with pytest.raises(ValueError, match="has two stages"):
        ModelSpec.model_validate({**spec.model_dump(), "previous": third})
