"""Layouts follow the median image and the machine, and every network that they name can be built."""

from __future__ import annotations

from math import prod

import pytest
import torch

from voxflow.components import Component, build_network, read_network
from voxflow.machine import Machine
from voxflow.planning import TrainingLayout, plan_layout
from voxflow.volumes import Fingerprint, Intensity, Spread

LAPTOP = Machine(cores=2, memory_gb=16)
SERVER = Machine(cores=16, memory_gb=128, gpu="a GPU", gpu_memory_gb=80)
Triple = tuple[float, float, float]


def fingerprint(size: Triple, spacing: Triple = (1, 1, 1), cases: int = 80, modality: str = "") -> Fingerprint:
    values = Intensity(percentile_00_5=-50, median=40, percentile_99_5=150, mean=50, deviation=40)
    return Fingerprint(
        cases=cases,
        labelled=cases,
        modality=modality,
        size=Spread(least=size, median=size, most=size),
        spacing_mm=Spread(least=spacing, median=spacing, most=spacing),
        intensity=(values,),
        classes=(),
    )


def network(layout: TrainingLayout) -> Component:
    strides, kernels = [list(s) for s in layout.strides], [list(k) for k in layout.kernels]
    levels = {"nf_enc": list(layout.filters), "strides": strides, "kernels": kernels}
    return Component(name="PlainUnet", args={"in_channels": 1, "num_classes": 3, **levels})


def test_small_volumes_are_taken_whole() -> None:
    layout = plan_layout(fingerprint((36, 50, 37)), LAPTOP)
    assert (layout.patch, layout.whole, layout.batch) == ((40, 56, 40), True, 2)
    assert layout.strides == ((2, 2, 2),) * 3
    assert plan_layout(fingerprint((36, 50, 37)), SERVER).batch == 8


def test_a_large_volume_gets_a_cube_that_the_machine_can_take() -> None:
    assert plan_layout(fingerprint((240, 240, 155)), LAPTOP).patch == (96, 96, 96)
    layout = plan_layout(fingerprint((240, 240, 155)), SERVER)
    assert (layout.patch, layout.whole, layout.filters[0]) == ((128, 128, 128), False, 32)


def test_a_gpu_takes_a_sixth_level_where_the_patch_stays_as_large() -> None:
    layout = plan_layout(fingerprint((240, 240, 155)), SERVER)
    assert (layout.patch, layout.filters) == ((128, 128, 128), (32, 64, 128, 256, 320, 320))
    assert layout.strides == ((2, 2, 2),) * 5
    assert len(plan_layout(fingerprint((240, 240, 155)), LAPTOP).filters) == 5
    # Of 48 slices a multiple of 32 would make 64.
    thin = plan_layout(fingerprint((400, 400, 40)), SERVER)
    assert (thin.patch[2], len(thin.filters)) == (48, 5)


def test_thick_slices_are_halved_later_and_convolved_in_plane() -> None:
    layout = plan_layout(fingerprint((490, 490, 100), (0.8, 0.8, 5.0)), LAPTOP)
    assert layout.strides == ((2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert layout.kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3))


@pytest.mark.parametrize("machine", [LAPTOP, SERVER])
@pytest.mark.parametrize(
    ("size", "spacing"),
    [((36, 50, 37), (1, 1, 1)), ((490, 490, 100), (0.8, 0.8, 5)), ((320, 320, 20), (0.6, 0.6, 3.6)),
     ((20, 20, 8), (1, 1, 3)), ((7, 300, 9), (2, 1, 1)), ((5, 6, 4), (1, 1, 1))],
)  # fmt: skip
def test_a_patch_fits_the_networks_strides_and_the_work(machine: Machine, size: Triple, spacing: Triple) -> None:
    layout = plan_layout(fingerprint(size, spacing), machine)
    read = read_network(network(layout))
    assert not [n for n in layout.patch if n % read.divisor]
    assert prod(layout.patch) <= 1.3 * (128 if machine.gpu else 96) ** 3
    small = layout.model_copy(update={"filters": (2,) * len(layout.filters)})
    edge = [prod(step[axis] for step in layout.strides) * 2 for axis in range(3)]
    with torch.inference_mode():
        assert build_network(network(small)).eval()(torch.zeros(1, 1, *edge)).shape == (1, 3, *edge)


def test_few_cases_get_small_batches() -> None:
    assert plan_layout(fingerprint((36, 50, 37), cases=10), SERVER).batch == 2
