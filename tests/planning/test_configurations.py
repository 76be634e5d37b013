"""The layouts of ``train.configuration``: single slices, and nnU-Net's residual encoder presets."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.planning.test_layout import LAPTOP, SERVER, fingerprint
from tests.planning.test_recipe import CONFIG, place_data
from voxflow.components import Component, build_network, read_network
from voxflow.components.transforms.cropping import FastPosNegRatioCropROI
from voxflow.config import load_workflow, read_json
from voxflow.config.source import set_nested
from voxflow.errors import ConfigError
from voxflow.files import write_json
from voxflow.planning import Proposal, plan_layout, plan_training
from voxflow.planning.residual import choose_preset, count_features, estimate_memory, plan_residual
from voxflow.planning.slices import plan_slices
from voxflow.training import DataFacts, TrainOptions
from voxflow.training.plan import TrainingPlan
from voxflow.volumes import write_fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.machine import Machine

THICK, CT = fingerprint((320, 320, 20), (0.6, 0.6, 3.6)), fingerprint((490, 490, 100), (0.8, 0.8, 5))


def gpu(gigabytes: float) -> Machine:
    return SERVER.model_copy(update={"gpu_memory_gb": gigabytes})


@pytest.mark.parametrize("machine", [LAPTOP, SERVER])
@pytest.mark.parametrize("flat", [0, 1, 2])
def test_slices_are_cut_across_the_axis_of_the_thickest_voxels(machine: Machine, flat: int) -> None:
    size, spacing = [320.0] * 3, [0.6] * 3
    size[flat], spacing[flat] = 20, 3.6
    layout = plan_slices(fingerprint((size[0], size[1], size[2]), (spacing[0], spacing[1], spacing[2])), machine)
    assert [n for axis, n in enumerate(layout.patch) if axis != flat] == [320, 320]
    assert layout.flat_axes == (flat,)
    assert {step[flat] for step in (*layout.strides, *layout.kernels)} == {1}
    assert all(kernel[axis] == 3 for kernel in layout.kernels for axis in range(3) if axis != flat)
    assert layout.batch == layout.cases_a_step * layout.patches_a_case


def test_a_step_takes_many_small_slices_of_few_cases() -> None:
    layout = plan_slices(fingerprint((36, 50, 37), cases=100), LAPTOP)
    assert (layout.patch, layout.cases_a_step, layout.patches_a_case) == ((40, 56, 1), 14, 2)
    few = plan_slices(fingerprint((36, 50, 37), cases=10), LAPTOP)
    assert (few.cases_a_step, few.patches_a_case, few.batch) == (1, 32, 32)
    assert plan_slices(fingerprint((512, 512, 12), (0.7, 0.7, 6.0)), LAPTOP).batch == 4
    assert plan_slices(fingerprint((512, 512, 12), (0.7, 0.7, 6.0)), SERVER).batch == 11


def test_the_features_are_those_that_nnunet_counts() -> None:
    filters, strides = (32, 64, 128, 256, 320, 320), ((2, 2, 2),) * 5
    # nnU-Net's own number for this network, at the end of residual_encoder_unet_planners.py, is of a network with deep
    # supervision: three classes at each coarser level.
    coarse_answers = 3 * sum((128 >> level) ** 3 for level in range(1, 5))
    assert count_features((128, 128, 128), filters, strides, classes=3) + coarse_answers == 558319104


def test_the_features_are_the_answers_of_the_networks_convolutions() -> None:
    filters, strides = (2, 4, 4), ((2, 2, 1), (2, 2, 2))
    args: dict[str, Any] = {
        "features_per_stage": list(filters),
        "strides": [[1, 1, 1], *map(list, strides)],
        "kernel_sizes": [[3, 3, 3]] * 3,
        "n_blocks_per_stage": [1, 3, 4],
        "n_conv_per_stage_decoder": [1, 1],
        "norm": "instance",
        "activation": "LeakyReLU",
        "in_channels": 1,
        "num_classes": 3,
    }
    network, counted = build_network(Component(name="ResidualEncoderUNet", args=args)), list[int]()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            module.register_forward_hook(lambda _module, _inputs, answer: counted.append(answer.numel()))
    with torch.inference_mode():
        network(torch.zeros(1, 1, 16, 16, 8))
    # The last level halves without more filters: its skip has no convolution, but nnU-Net counts it.
    assert count_features((16, 16, 8), filters, strides, classes=3) == sum(counted) + 4 * 4 * 4 * 4


@pytest.mark.parametrize(
    ("gigabytes", "preset"), [(0, "M"), (6, "M"), (11, "M"), (25.3, "L"), (42.4, "XL"), (85, "XL")]
)
def test_the_preset_follows_from_the_memory(gigabytes: float, preset: str) -> None:
    assert choose_preset(gpu(gigabytes)).name == preset


@pytest.mark.parametrize("gigabytes", [6, 11, 25.3, 85])
@pytest.mark.parametrize(
    "data",
    [THICK, fingerprint((240, 240, 155)), fingerprint((490, 490, 100), (0.8, 0.8, 5)), fingerprint((36, 50, 37))],
)
def test_patch_and_batch_of_a_preset_fit_the_memory(data: Any, gigabytes: float) -> None:
    layout = plan_residual(data, gpu(gigabytes))
    assert layout.batch >= 2
    assert estimate_memory(layout) <= min(gigabytes, choose_preset(gpu(gigabytes)).memory_gb) * 1.25
    totals = [prod(step[axis] for step in layout.strides) for axis in range(3)]
    assert not [n for n in layout.patch if n % max(totals)]


def test_a_larger_gpu_takes_a_larger_patch() -> None:
    patches = [prod(plan_residual(fingerprint((240, 240, 155)), gpu(memory)).patch) for memory in (6, 11, 25, 85)]
    assert patches == sorted(set(patches))


def test_without_a_gpu_the_smallest_preset_takes_the_patch_of_the_full_configuration() -> None:
    layout, full = plan_residual(THICK, LAPTOP), plan_layout(THICK, LAPTOP)
    assert (layout.preset, layout.patch, layout.batch) == ("M", full.patch, full.batch)
    assert layout.filters == (32, 64, 128, 256, 320)


def plan_template(tmp_path: Path, data: Any, configuration: str) -> tuple[dict[str, Any], Proposal, Any]:
    resampled = place_data(tmp_path / "data", ["liver"])
    write_fingerprint(resampled / "fingerprint.json", data)
    train = {"plan": "auto", "max_minutes": 20000, "schedule": "minutes", "configuration": configuration}
    values, proposal = plan_training(train, resampled, CONFIG)
    assert isinstance(proposal, Proposal)
    content = read_json(CONFIG)
    assert not any(set_nested(content, place, value) for place, value in values.items())
    write_json(tmp_path / "config_train.json", content)
    places = {"DATASET_JSON": "x", "DATA_ROOT": "y"}
    return values, proposal, load_workflow(tmp_path / "config_train.json", overrides=places)


def test_the_templates_configuration_takes_slices(tmp_path: Path) -> None:
    values, proposal, workflow = plan_template(tmp_path, THICK, "2d")
    assert proposal.to_json()["configuration"] == "2d"
    by_name = {step.name: step.args for step in workflow.train.pre_transforms}
    crop, pipeline = by_name["FastPosNegRatioCropROI"], workflow.train.image_pipeline.args
    assert crop["size"] == workflow.validate.inferer.args["roi_size"] == [320, 320, 1]
    assert crop.get("batch_size", 1) * pipeline["output_batch_size"] == proposal.layout.batch
    # Mirroring across slices would change nothing but the time of an inference.
    assert by_name["RandomSpatialFlip"]["axes"] == ["i", "j"]
    # Bent by a share of the plane's control points, not of the slice's thickness.
    assert proposal.budget
    assert proposal.budget.bend_mm == pytest.approx(0.1 * 320 * 0.6 / 4, rel=0.01)
    assert values["epochs"] > 1000
    facts = DataFacts(class_names=("background", "liver"))
    spec = TrainingPlan.build(workflow, facts).make_spec(1)
    assert (spec.window, spec.divisor, spec.divisors) == ((320, 320, 1), 32, (32, 32, 1))
    network = read_network(workflow.train.model)
    assert (network.divisors, network.least_size) == ((32, 32, 1), (32, 32, 1))


def test_the_templates_configuration_takes_a_residual_encoder_with_its_own_arguments_alone(tmp_path: Path) -> None:
    _, proposal, workflow = plan_template(tmp_path, THICK, "residual")
    assert proposal.layout.preset == "M"
    assert workflow.train.model.name == "ResidualEncoderUNet"
    assert workflow.train.model.args["features_per_stage"] == list(proposal.layout.filters)
    assert workflow.train.model.args["final_activation"] == "softmax"
    assert "nf_enc" not in workflow.train.model.args


def test_the_full_configuration_is_planned_and_written_as_before_the_key(tmp_path: Path) -> None:
    resampled = place_data(tmp_path / "data", ["liver"])
    plans = [
        plan_training({"plan": "auto", "max_minutes": 60, **named}, resampled, CONFIG)
        for named in ({}, {"configuration": "full"})
    ]
    assert plans[0] == plans[1]
    _, proposal = plans[0]
    assert isinstance(proposal, Proposal)
    content = proposal.to_json()
    assert content.keys() == {"fingerprint", "machine", "layout", "budget", "mirror"}
    assert content["layout"].keys() == {"patch", "batch", "whole", "filters", "strides", "kernels"}
    facts = DataFacts(class_names=("background", "liver"))
    (tmp_path / "full").mkdir()
    _, _, workflow = plan_template(tmp_path / "full", THICK, "full")
    assert "divisors" not in TrainingPlan.build(workflow, facts).make_spec(1).model_dump()


def test_an_unknown_configuration_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    resampled = place_data(tmp_path / "data", ["liver"])
    with pytest.raises(ConfigError, match=r"no configuration '3d' \(known: full, 2d, residual"):
        plan_training({"plan": "auto", "configuration": "3d"}, resampled, CONFIG)
    with pytest.raises(ConfigError, match=r"no configuration \['2d', 'full'\] \(known: full, 2d, residual"):
        plan_training({"plan": "auto", "configuration": ["2d", "full"]}, resampled, CONFIG)
    with pytest.raises(ValueError, match="configuration: 2d needs plan: auto"):
        TrainOptions(configuration="2d")


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_a_patch_of_one_slice_is_turned_and_bent_in_its_plane(flat: int) -> None:
    size, shape = [9, 9, 9], [40, 40, 40]
    size[flat], shape[flat] = 1, 5
    image = np.zeros((1, *shape), np.float32)
    # Each slice holds its own number, so that a patch that leaves its plane shows several.
    image += np.arange(5, dtype=np.float32).reshape([5 if axis == flat else 1 for axis in range(3)]) + 1
    label = np.zeros((1, *shape), np.int16)
    label[0][tuple(slice(None) if axis == flat else slice(19, 21) for axis in range(3))] = 1
    crop = FastPosNegRatioCropROI(
        fields=("image",),
        size=(size[0], size[1], size[2]),
        rotation=True,
        rotation_degree=45,
        scale=True,
        deform=True,
        neg=0,
    )
    sample = {"image": image, "label": label, "image_meta": {}}
    rng = np.random.default_rng(0)
    for _ in range(8):
        patch = crop.run(crop.prepare(sample), rng)[0]["image"]
        inside = patch[patch != 0]
        assert patch.shape == (1, *size)
        # Beyond the image is 0, and half of it at the border.
        assert inside.max() == pytest.approx(round(float(inside.max())))
        assert len(np.unique(np.round(patch[0][tuple(0 if a == flat else slice(3, 6) for a in range(3))], 3))) == 1
