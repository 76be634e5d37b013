"""Batches that are made where the network is, and trainings on them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.training.conftest import radiograph_config, volume_config, workflow_of
from voxflow.components import Chain, Component, SegmentationImagePipeline
from voxflow.errors import DataError
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, read_checkpoint, train
from voxflow.training.data import Batch, Batches
from voxflow.training.device_batches import DeviceCases, place_batches
from voxflow.training.loop import TrainingLoop

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.datalist import Datalist

SIZE = (8, 8, 6)
CPU = torch.device("cpu")
BOTH = {"fields": ["image", "label"]}
TURN: dict[str, Any] = {
    "name": "FastPosNegRatioCropROI",
    "args": {"fields": "image", "size": list(SIZE), "rotation": True, "scale": True, "deform": True},
}
FLIP: dict[str, Any] = {"name": "RandomSpatialFlip", "args": BOTH}
NOISE: dict[str, Any] = {"name": "AddGaussianNoise", "args": {"fields": "image"}}
BRIGHT: dict[str, Any] = {"name": "ScaleShiftIntensity", "args": {"fields": "image"}}


def make_store(count: int = 5, shape: tuple[int, int, int] = (12, 14, 9)) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    labels = (rng.random((count, 1, *shape)) < 0.1).astype(np.uint8)
    images = rng.normal(size=(count, 2, *shape)).astype(np.float32)
    return [{"case": str(n), "image": images[n], "label": labels[n], "spacing": (1.0, 1.0, 2.0)} for n in range(count)]


def make_batches(*steps: dict[str, Any], store: Any = None, **options: Any) -> Batches:
    places: dict[str, Any] = {"data_list_file_path": "", "data_file_base_dir": "", "data_list_key": "training"}
    pipeline = SegmentationImagePipeline(**places, output_crop_size=SIZE, output_batch_size=2)
    chain = Chain.build([Component.model_validate(step) for step in steps])
    return Batches(make_store() if store is None else store, chain, pipeline, 7, **options)


def place(batches: Batches, **options: Any) -> Batches:
    return place_batches(batches, TrainOptions(augment_on="device", **options), CPU, threads=2)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("cache", [None, 0, 1000])
def test_an_epoch_is_the_same_wherever_it_is_made(workers: int, cache: int | None) -> None:
    batches = make_batches(TURN, FLIP, NOISE, BRIGHT, workers=workers)
    on_device = place(batches, gpu_cache_mb=cache)
    assert on_device.augmenter is not None
    assert on_device.channels == 2
    for epoch in (1, 2):
        for expected, batch in zip(batches.iterate_epoch(epoch), on_device.iterate_epoch(epoch), strict=True):
            assert batch.cases == expected.cases
            torch.testing.assert_close(batch.image, expected.image, rtol=1e-4, atol=1e-4)
            assert (batch.label != expected.label).float().mean() < 0.005
            assert batch.label.dtype == expected.label.dtype


def test_two_processes_share_an_epoch_as_they_do_on_the_processor() -> None:
    batches = make_batches(TURN, FLIP, NOISE)
    halves = [place(make_batches(TURN, FLIP, NOISE, rank=rank, world_size=2)) for rank in range(2)]
    patches = [image for batch in batches.iterate_epoch(1) for image in batch.image]
    shared = list(zip(*(half.iterate_epoch(1) for half in halves), strict=True))
    images = [image for pair in shared for batch in pair for image in batch.image]
    for expected, image in zip(patches, images, strict=False):
        torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-4)


def test_making_a_batch_waits_for_no_device() -> None:
    """Of a tensor without content nobody can read a value, as nobody should of one that a GPU still computes."""
    batches = make_batches(TURN, FLIP, NOISE, BRIGHT)
    on_device = place_batches(batches, TrainOptions(augment_on="device"), torch.device("meta"), threads=2)
    for batch in on_device.iterate_epoch(1):
        assert batch.image.device.type == batch.label.device.type == "meta"
        assert batch.image.shape == (2, 2, *SIZE)


def test_cases_are_kept_as_long_as_there_is_room() -> None:
    store = make_store(6, (64, 64, 16))
    size = store[0]["image"].nbytes + store[0]["label"].nbytes
    cases = DeviceCases(CPU, int(2.5 * size / 2**20) + 1)
    for index in [*range(6), *range(6)]:
        tensors = cases.fetch(index, store[index], ("image", "label"))
        assert tensors["label"].dtype == torch.uint8
        np.testing.assert_array_equal(tensors["image"].numpy(), store[index]["image"])
    assert cases.count == int((int(2.5 * size / 2**20) + 1) * 2**20 / size)
    assert cases.used_bytes == cases.count * size
    assert cases.forecast_bytes(1000) == (int(2.5 * size / 2**20) + 1) * 2**20
    assert cases.forecast_bytes(2) == 2 * size
    # The same tensors, and no further copies.
    assert cases.fetch(0, store[0], ("image",))["image"] is cases.fetch(0, store[0], ("image",))["image"]


def test_a_gpu_that_is_full_keeps_the_cases_that_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, cases = make_store(), DeviceCases(CPU, 1000)
    cases.fetch(0, store[0], ("image",))

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.Tensor, "to", fail)
    assert cases.fetch(1, store[1], ("image",))["image"].shape == (2, 12, 14, 9)
    assert cases.fetch(2, store[2], ("image",))["image"].shape == (2, 12, 14, 9)
    assert cases.count == 1
    assert capsys.readouterr().err.count("no room for more than 1 cases") == 1


def test_types_that_torch_hardly_knows_keep_their_values() -> None:
    image = np.array([[[[0, 40_000, 65_535]]]], np.uint16)
    sample = {"case": "a", "image": image, "label": image.astype(">i2")}
    tensors = DeviceCases(CPU, 0).fetch(0, sample, ("image", "label"))
    assert tensors["image"].tolist() == image.tolist()
    assert tensors["label"].tolist() == image.astype(">i2").tolist()


def test_a_chain_that_knows_arrays_alone_stays_on_the_processor(capsys: pytest.CaptureFixture[str]) -> None:
    batches = place(make_batches(FLIP, TURN))
    assert batches.augmenter is None
    assert capsys.readouterr().err.splitlines() == [
        "batches are made on the processor: FastPosNegRatioCropROI has no code for a device at its place"
    ]
    assert place_batches(make_batches(TURN), TrainOptions(), CPU, 2).augmenter is None
    assert not capsys.readouterr().err


def test_a_case_that_can_not_be_drawn_from_is_named_or_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store()
    del store[3]["label"]
    with pytest.raises(DataError, match=r"case 3: KeyError.*on_bad_case: skip"):
        list(place(make_batches(TURN, store=store)).iterate_epoch(1))
    epoch = list(place(make_batches(TURN, store=store, skip=True)).iterate_epoch(1))
    assert "3" not in {case for batch in epoch for case in batch.cases}
    assert "another case takes its place" in capsys.readouterr().err


def test_a_batch_that_a_device_can_not_make_is_made_on_the_processor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = make_batches(TURN, FLIP)
    on_device = place(batches, gpu_cache_mb=100)
    apply_tail, failures = Chain.apply_tail, [RuntimeError("no such kernel"), torch.OutOfMemoryError("full")]

    def fail(*arguments: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return apply_tail(*arguments)

    monkeypatch.setattr(Chain, "apply_tail", fail)
    for expected, batch in zip(batches.iterate_epoch(1), on_device.iterate_epoch(1), strict=True):
        assert batch.cases == expected.cases
        torch.testing.assert_close(batch.image, expected.image, rtol=1e-4, atol=1e-4)
    said = capsys.readouterr().err
    assert "RuntimeError: no such kernel" in said
    assert "OutOfMemoryError: full" in said
    assert on_device.augmenter is not None
    assert not on_device.augmenter.cases.count


def test_a_case_that_can_not_be_changed_is_named_or_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store()
    store[3]["label"] = np.concatenate([store[3]["label"]] * 2)
    regions = {"name": "ConvertToRegions", "args": {"fields": "label", "regions": {"organ": [1]}}}
    with pytest.raises(DataError, match="case 3: ValueError: a label map has one channel, received 2"):
        list(place(make_batches(FLIP, regions, store=store)).iterate_epoch(1))
    epoch = list(place(make_batches(FLIP, regions, store=store, skip=True)).iterate_epoch(1))
    assert "3" not in {case for batch in epoch for case in batch.cases}
    assert "another case takes its place" in capsys.readouterr().err


def test_whole_images_of_different_size_are_refused_with_their_cases() -> None:
    store = [*make_store(1), *make_store(1, (12, 14, 8))]
    batches = make_batches(FLIP, store=store)
    batches = Batches(
        batches.store, batches.chain, batches.pipeline.model_copy(update={"output_crop_size": (-1,) * 3}), 7
    )
    with pytest.raises(DataError, match=r"images of one batch differ in shape: .*; crop or scale them"):
        list(place(batches).iterate_epoch(1))


@pytest.fixture
def run(tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions) -> Any:
    def run_training(name: str, **changed: Any) -> list[float]:
        config = volume_config()
        config["train"]["pre_transforms"] = [
            *config["train"]["pre_transforms"][:2],
            {**TURN, "args": {**TURN["args"], "size": [16, 16, 16], "batch_size": 2}},
            *(FLIP, NOISE, BRIGHT),
        ]
        workflow = workflow_of(config, tmp_path, epochs=3, num_training_epoch_per_valid=1)
        run_options = TrainOptions.model_validate(options.model_dump() | {"precision": "fp32"} | changed)
        curves = tmp_path / f"{name}.csv"
        train(workflow, cubes, run_options, tmp_path / name, facts=facts, tracker=NullTracker(), curves=curves)
        return [float(line.split(",")[1]) for line in curves.read_text().splitlines()[1:]]

    return run_training


def test_a_training_learns_the_same_wherever_its_batches_are_made(run: Any, tmp_path: Path) -> None:
    on_processor, on_device = run("processor"), run("device", augment_on="device", gpu_cache_mb=100)
    assert on_processor[0] == pytest.approx(on_device[0], rel=1e-4)
    assert on_processor == pytest.approx(on_device, rel=1e-2)
    again = run("again", augment_on="device", gpu_cache_mb=0)
    assert again == on_device
    first, second = (read_checkpoint(tmp_path / name / "model_final.pt")["state_dict"] for name in ("device", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_radiographs_and_their_findings_are_made_on_a_device(
    tmp_path: Path, corners: Datalist, options: TrainOptions
) -> None:
    config = radiograph_config()
    turn = {"name": "RandomRotate2D", "args": {"fields": "image", "angle": 10}}
    config["train"]["pre_transforms"] = [*config["train"]["pre_transforms"], turn]
    rows = []
    for name, augment_on in (("processor", "processor"), ("device", "device")):
        workflow = workflow_of(config, tmp_path, epochs=1)
        run_options = options.model_copy(update={"precision": "fp32", "augment_on": augment_on})
        facts = DataFacts(class_names=("corner", "none"))
        result = train(workflow, corners, run_options, tmp_path / name, facts=facts, tracker=NullTracker())
        rows.append(result.train_loss)
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)


def test_a_network_that_needs_the_memory_gets_it(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = run("expected", augment_on="device", gpu_cache_mb=0)
    add_gradients, failures = TrainingLoop._add_gradients, [3]

    def fail_once(self: TrainingLoop, epoch: int, group: list[Batch]) -> None:
        if failures and self.result.steps == failures[0]:
            del failures[0]
            raise torch.OutOfMemoryError
        add_gradients(self, epoch, group)

    monkeypatch.setattr(TrainingLoop, "_add_gradients", fail_once)
    assert run("again", augment_on="device", gpu_cache_mb=100) == expected
    assert "they are copied patch by patch now" in capsys.readouterr().err
    failures.append(2)
    with pytest.raises(torch.OutOfMemoryError):
        run("none", augment_on="device", gpu_cache_mb=0)


def test_a_step_waits_for_the_batch_that_another_stream_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    stream = SimpleNamespace(wait_event=lambda event: calls.append(f"wait for {event}"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: calls.append("keep"))
    batch = Batch(torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2), ("a",), "batch 1")
    image, _ = batch.copy_to(CPU, torch.channels_last_3d)
    assert calls == ["wait for batch 1", "keep", "keep"]
    assert image.is_contiguous(memory_format=torch.channels_last_3d)
    Batch(batch.image, batch.label, ("a",)).copy_to(CPU, torch.contiguous_format)
    assert len(calls) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("cache", [0, 1000])
def test_a_gpu_makes_the_same_batches_and_is_not_waited_for(cache: int) -> None:
    batches = make_batches(TURN, FLIP, NOISE, BRIGHT)
    on_device = place_batches(batches, TrainOptions(gpu_cache_mb=cache), torch.device("cuda", 0), threads=2)
    assert on_device.augmenter is not None
    assert len(list(on_device.iterate_epoch(1))) == on_device.steps
    torch.cuda.set_sync_debug_mode("error")
    try:
        epoch = list(on_device.iterate_epoch(2))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for expected, batch in zip(batches.iterate_epoch(2), epoch, strict=True):
        assert batch.ready is not None
        batch.ready.synchronize()
        torch.testing.assert_close(batch.image.cpu(), expected.image, rtol=1e-3, atol=1e-3)
        assert (batch.label.cpu() != expected.label).float().mean() < 0.005


@pytest.mark.gpu
def test_a_training_on_a_gpu_learns_what_one_on_a_processor_does(run: Any) -> None:
    on_processor = run("processor")
    on_gpu = run("gpu", accelerator="cuda", deterministic=True)
    assert on_gpu[0] == pytest.approx(on_processor[0], rel=0.02)
    assert on_gpu == run("again", accelerator="cuda", deterministic=True)
