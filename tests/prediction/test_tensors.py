"""What is predicted on tensors, here of the processor, is what is predicted on arrays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.inference.models import DENSENET, UNET, build_seeded, radiograph_spec, volume_spec
from voxflow.components import Component
from voxflow.engines import TorchEngine
from voxflow.geometry import Geometry
from voxflow.prediction import Ensemble, PredictOptions, predict_prepared, predict_radiograph, prepare_image
from voxflow.prediction.tensors import activate, count_free_bytes, pick_labels, prepare_on_device, upload
from voxflow.spec import TransformSpec
from voxflow.training import save_model
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.spec import ModelSpec

WINDOW = TransformSpec(name="ScaleIntensityRange", args={
    "fields": "image", "a_min": -150, "a_max": 250, "b_min": 0, "b_max": 1, "clip": True})  # fmt: skip
GRIDS = {
    "equal": ((20, 18, 12), (1, 1, 2), None),
    "finer": ((17, 19, 11), (0.7, 0.8, 1.1), None),
    "coarser and turned": ((13, 9, 14), (1.9, 2.3, 1.2), "LAS"),
    "axes in another order": ((11, 16, 18), (2.1, 0.9, 1), "SPR"),
}


def draw_volume(name: str, dtype: str = "int16", *, number: int = 0, orientation: str = "RAS") -> Volume:
    """A smooth image with noise, on one of the grids."""
    size, spacing, turned = GRIDS[name]
    rng = np.random.default_rng(number)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij"))
    ball = 400 * np.exp(-3 * (place**2).sum(0)) - 150 + rng.normal(scale=40, size=size)
    values = ball + 1000 if dtype.startswith("u") else ball
    geometry = Geometry.from_parts(size, spacing)
    if turned:
        from voxflow.volumes import target_geometry

        geometry = target_geometry(Geometry.from_parts(size, spacing), None, turned)
        values = np.resize(values, geometry.size)
    return Volume(np.asfortranarray(values.astype(dtype)), geometry)


def make_engine(tmp_path: Path, classes: int = 2, seed: int = 0, **changes: Any) -> TorchEngine:
    channels = int(changes.get("in_channels", 1))
    component = Component(name="Unet", args=UNET.args | {"num_classes": classes, "in_channels": channels})
    names = ("background", *(f"class {n}" for n in range(1, classes)))
    spec = volume_spec(**{"class_names": names, "spacing_mm": (1.0, 1.1, 1.4), "orientation": "RAS",
                          "preprocess": (WINDOW,)} | changes)  # fmt: skip
    module = build_seeded(component)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weights in module.parameters():
            weights.add_(0.05 * torch.randn(weights.shape))
    save_model(tmp_path / f"{seed}.pt", module, component, spec=spec, epoch=1, metric=0.5)
    return TorchEngine(tmp_path / f"{seed}.pt")


def compare(engine: Engine, volumes: list[Volume], options: PredictOptions) -> NDArray[Any]:
    """Predict both ways; the masks may differ where two classes are as likely."""
    expected = predict_prepared(engine, prepare_image(volumes, engine.spec), options)
    prepared = prepare_image(volumes, engine.spec, "cpu")
    assert isinstance(prepared.image, torch.Tensor)
    received = predict_prepared(engine, prepared, options)
    assert received.mask.geometry.is_close(expected.mask.geometry)
    assert received.mask.array.dtype == expected.mask.array.dtype
    assert received.windows == expected.windows
    assert (received.mask.array != expected.mask.array).mean() < 1e-3
    assert len(np.unique(expected.mask.array)) > 1
    return received.mask.array


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "uint8"])
def test_images_are_prepared_to_the_same_values(grid: str, dtype: str, tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    volume = draw_volume(grid, dtype)
    expected = prepare_image([volume], engine.spec)
    received = prepare_on_device([volume], engine.spec, "cpu")
    assert received.grid.is_close(expected.grid)
    assert np.array_equal(received.image.numpy(), expected.image)


@pytest.mark.parametrize("options", [
    PredictOptions(plan="windows"), PredictOptions(plan="windows", blend="constant", batch=3),
    PredictOptions(plan="whole"), PredictOptions(plan="windows", flips=("i", "k")),
    PredictOptions(plan="windows", back="labels"), PredictOptions(plan="windows", skip_empty=True),
    PredictOptions(plan="windows", memory_mb=1),
], ids=["windows", "alike", "whole", "mirrored", "labels", "empty", "little memory"])  # fmt: skip
@pytest.mark.parametrize("classes", [2, 5])
def test_masks_are_the_same_by_every_plan(options: PredictOptions, classes: int, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, classes)
    compare(engine, [draw_volume("finer")], options)


@pytest.mark.parametrize("grid", GRIDS)
def test_masks_are_the_same_on_every_grid(grid: str, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, 3)
    compare(engine, [draw_volume(grid)], PredictOptions())


@pytest.mark.parametrize("changes", [
    {"activation": "sigmoid", "class_names": ("organ", "tumour", "vessel")},
    {"activation": "sigmoid", "class_names": ("whole", "core", "enhancing"), "regions": ((1, 2, 4), (1, 4), (4,))},
    {"antialias": True, "spacing_mm": (2.5, 2.5, 2.5)},
    {"interpolation": "bspline"},
    {"extent": "centres"},
], ids=["sigmoid", "regions", "antialias", "bspline", "centres"])  # fmt: skip
def test_masks_are_the_same_for_every_kind_of_model(changes: dict[str, Any], tmp_path: Path) -> None:
    compare(make_engine(tmp_path, 3, **changes), [draw_volume("finer")], PredictOptions())


def test_one_map_decides_alike(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, 1, activation="sigmoid", class_names=("organ",))
    compare(engine, [draw_volume("finer")], PredictOptions())


def test_channels_on_several_grids_and_an_ensemble(tmp_path: Path) -> None:
    engines = [make_engine(tmp_path, 3, seed, in_channels=2, preprocess=(NORMAL,)) for seed in range(2)]
    volumes = [draw_volume("finer"), draw_volume("equal", "float32", number=1)]
    compare(Ensemble(engines), volumes, PredictOptions(plan="windows"))


NORMAL = TransformSpec(name="NormalizeNonzeroIntensities", args={"fields": "image"})
CENTRED = TransformSpec(name="CenterData", args={"fields": "image"})
GIVEN = TransformSpec(name="CenterData", args={"fields": "image", "subtrahend": [3.5, 1], "divisor": [2, 7]})


@pytest.mark.parametrize("transform", [WINDOW, NORMAL, CENTRED, GIVEN], ids=["range", "nonzero", "own mean", "given"])
def test_transforms_change_tensors_as_arrays(transform: TransformSpec) -> None:
    from voxflow.components import build_transform

    image = np.random.default_rng(0).normal(100, 50, (2, 9, 8, 7)).astype(np.float32)
    image[:, 2:4] = 0
    image[1, 5:] = 0
    before = image.copy()
    built: Any = build_transform(transform)
    received = built.change_tensor(torch.from_numpy(image))
    assert received.dtype == torch.float32
    assert np.array_equal(image, before)
    assert np.allclose(received.numpy(), built({"image": image})["image"], atol=2e-6)


def test_a_transform_that_knows_no_tensors_is_run_on_the_processor(tmp_path: Path) -> None:
    transform = TransformSpec(name="ThresholdValues", args={"fields": "image", "threshold": 10})
    spec = volume_spec(preprocess=(transform,))
    volume = draw_volume("equal")
    received = prepare_on_device([volume], spec, "cpu").image
    assert np.array_equal(received.numpy(), prepare_image([volume], spec).image)


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    from voxflow.errors import DataError

    volume = draw_volume("finer", "float32")
    volume.array[3, 3, 3] = np.nan
    with pytest.raises(DataError) as expected:
        prepare_image([volume], volume_spec())
    with pytest.raises(DataError) as received:
        prepare_image([volume], volume_spec(), "cpu")
    assert str(received.value) == str(expected.value)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", ">i2", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("layout", ["C", "F", "reversed", "read only"])
def test_arrays_arrive_as_they_are(dtype: str, layout: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    array[0, 0, 0] = 100
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "reversed":
        array = array[::-1, :, ::-1]
    elif layout == "read only":
        array.flags.writeable = False
    if dtype == "uint16":
        array = array + np.uint16(60000)
    assert np.array_equal(upload(array, "cpu").numpy(), array.astype(array.dtype.newbyteorder("=")))


class SmallGpu(TorchEngine):
    """A GPU that has memory for windows of a size only, and then none; it computes on the processor all the same."""

    most = 0
    asked: list[tuple[int, ...]]

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.run_tensor(torch.from_numpy(np.ascontiguousarray(batch))).numpy()

    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        self.asked.append(tuple(batch.shape))
        if self.device == "cuda" and batch[0, 0].numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().run_tensor(batch)


SMALLER, PROCESSOR = "with smaller windows", "on the processor"


@pytest.mark.parametrize(
    ("most", "said"),
    [(64**3, []), (64**2 * 40, [SMALLER]), (100, [SMALLER, SMALLER, PROCESSOR])],
    ids=["enough", "for smaller windows", "none"],
)
def test_an_image_that_the_gpu_has_no_memory_for_is_segmented_all_the_same(
    most: int, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_engine(tmp_path, spacing_mm=None, orientation=None)
    engine = SmallGpu(tmp_path / "0.pt")
    # Taken for a local network, it is shown the whole image where that fits: 103 MB.
    engine.most, engine.asked, engine.device, engine.is_local = most, [], "cuda", True
    image = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    volume = Volume(100 * image, Geometry.from_parts(image.shape, (1, 1, 1)))
    options = PredictOptions(memory_mb=160)
    prediction = predict_prepared(engine, prepare_image([volume], engine.spec, "cpu"), options)
    lines = [line for line in capsys.readouterr().err.splitlines() if "too little free memory" in line]
    assert [line.partition("trying again ")[2] for line in lines] == said
    assert 0 < prediction.mask.array.mean() < 1
    assert engine.device == "cuda"
    assert (prediction.windows > 1) == (said == [SMALLER])


@pytest.mark.parametrize(
    ("most", "said"), [(64**2 * 40, [SMALLER]), (100, [SMALLER, SMALLER, PROCESSOR])], ids=["for windows", "none"]
)
def test_an_image_in_memory_is_segmented_all_the_same_where_the_gpu_lacks_it(
    most: int, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was prepared on the processor, since the GPU had no memory for it, and whose windows go there."""
    make_engine(tmp_path, spacing_mm=None, orientation=None)
    engine = SmallGpu(tmp_path / "0.pt")
    image = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    volume = Volume(100 * image, Geometry.from_parts(image.shape, (1, 1, 1)))
    prepared, options = prepare_image([volume], engine.spec), PredictOptions(memory_mb=160)
    engine.is_local, engine.asked = True, []
    expected = predict_prepared(engine, prepared, options).mask.array
    capsys.readouterr()
    engine.most, engine.asked, engine.device = most, [], "cuda"
    received = predict_prepared(engine, prepared, options).mask.array
    lines = [line for line in capsys.readouterr().err.splitlines() if "too little free memory" in line]
    assert [line.partition("trying again ")[2] for line in lines] == said
    # Windows of another size meet instance norms of other means, which this network has.
    assert (received != expected).mean() < 0.05


def test_a_radiograph_that_the_gpu_has_no_memory_for_is_classified_on_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = radiograph_spec()
    save_model(tmp_path / "model.pt", build_seeded(DENSENET), DENSENET, spec=spec, epoch=1, metric=0.5)
    engine = SmallGpu(tmp_path / "model.pt")
    image = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    engine.most, engine.asked = 100, []
    expected = predict_radiograph(engine, image)
    engine.device = "cuda"
    assert predict_radiograph(engine, image) == expected
    assert "trying again on the processor" in capsys.readouterr().err


def test_a_driver_that_does_not_say_how_much_is_free_leaves_the_general_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("CUDA error: operation not supported")

    monkeypatch.setattr("torch.cuda.mem_get_info", fail)
    assert count_free_bytes(SimpleNamespace(device=torch.device("cuda"))) is None  # type: ignore[arg-type]


def test_an_image_that_does_not_fit_is_prepared_on_the_processor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("voxflow.prediction.tensors.upload", fail)
    prepared = prepare_image([draw_volume("finer")], volume_spec(), "cpu")
    assert isinstance(prepared.image, np.ndarray)
    assert "it is prepared on the processor" in capsys.readouterr().err


def test_probabilities_and_labels_of_tensors(tmp_path: Path) -> None:
    from voxflow.prediction import logits_to_labels, logits_to_probabilities

    logits = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    for spec in (
        volume_spec(class_names=("background", "a", "b")),
        volume_spec(activation="sigmoid", class_names=("a", "b", "c")),
    ):
        check_logits(logits, spec, logits_to_probabilities(logits, spec), logits_to_labels(logits, spec))


def check_logits(logits: NDArray[Any], spec: ModelSpec, probabilities: NDArray[Any], labels: NDArray[Any]) -> None:
    tensor = torch.from_numpy(logits)
    assert np.allclose(activate(tensor, spec).numpy(), probabilities, atol=1e-6)
    assert np.array_equal(pick_labels(tensor, spec).numpy(), labels)
