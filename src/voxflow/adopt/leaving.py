"""Writes a model that was trained here as a result folder of nnU-Net v2, which its predictor loads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.adopt.nnunet import CHECKPOINTS, DATASET, FOLD, PLANS, read_nnunet
from voxflow.adopt.parity import LEAST_EQUAL, CaseParity, compare_masks, list_cases
from voxflow.adopt.plans import PREPROCESSOR, SPLINES
from voxflow.adopt.terms import NEARLY, make_dataset_json, make_steps
from voxflow.adopt.weights import convert_network, describe_architecture, repeat_weights
from voxflow.components import Component
from voxflow.engines import TorchEngine
from voxflow.errors import ConfigError, ParityError
from voxflow.files import atomic_directory, write_json
from voxflow.prediction import PredictOptions, predict_volume
from voxflow.progress import say
from voxflow.spec import ModelSpec
from voxflow.torch_files import save_torch
from voxflow.training import load_model, read_checkpoint
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.spec import NnunetResampling, NnunetSteps

TRAINER = "nnUNetTrainer"
AXES = "ijk"


@dataclass(frozen=True)
class NnunetFolder:
    """A result folder that was written.

    Attributes:
        folder: it.
        cases: that the model and the folder were compared on; empty: none.
        remark: what nnU-Net does otherwise; empty where its plans say all of the model.
    """

    folder: Path
    cases: tuple[CaseParity, ...] = ()
    remark: str = ""


def write_nnunet(
    model: Path, target: Path, name: str, *, images: Path | None = None, least_equal: float = LEAST_EQUAL
) -> NnunetFolder:
    """Write plans.json, dataset.json and the checkpoints of a model.

    Args:
        model: its file.
        target: the result folder; it must not exist yet.
        name: of the data set in the plans.
        images: a folder of images on which the folder, adopted again, must give the model's masks; None: none.
        least_equal: the share of equal voxels that each of these needs.

    Raises:
        ConfigError: the target exists, or nnU-Net has no word for the network, its classes or how images are prepared.
        ParityError: the folder gives other masks; nothing is written.
    """
    if target.exists():
        raise ConfigError("exists already; name another folder with --output", path=target)
    content = read_checkpoint(model)
    spec = ModelSpec.model_validate_json(content["spec"])
    try:
        if spec.task != "segmentation" or (spec.window is None and not spec.parts):
            raise ConfigError("nnU-Net segments volumes by windows, and this model does not")
        if spec.previous:
            raise ConfigError("a cascade is two result folders of nnU-Net, and one alone is written")
        if spec.parts:
            raise ConfigError("a joined model is several result folders of nnU-Net, and one alone is written")
        if spec.totalsegmentator:
            message = "what TotalSegmentator does around nnU-Net can't be said in such a folder"
            raise ConfigError(f"{message}; adopt its folder with --steps nnunet, and that model can leave")
        component, folds = convert_network(Component.model_validate_json(content["network"]), content["state_dict"])
        plans, dataset = _make_plans(spec, make_steps(spec), component, name), make_dataset_json(spec)
    except ConfigError as error:
        raise ConfigError(error.message, path=model) from error
    with atomic_directory(target) as folder:
        write_json(folder / PLANS, plans)
        write_json(folder / DATASET, dataset)
        for number, weights in enumerate(folds):
            (folder / f"{FOLD}{number}").mkdir()
            checkpoint = {
                "network_weights": repeat_weights(weights, component),
                "init_args": {"configuration": _name_configuration(component), "fold": number},
                "trainer_name": TRAINER,
                "current_epoch": int(content["epoch"]),
                "inference_allowed_mirroring_axes": _list_mirrored(spec, component),
            }
            save_torch(folder / f"{FOLD}{number}" / CHECKPOINTS[0], checkpoint)
        cases = _compare_masks(model, folder, images) if images else ()
        _require_masks(cases, least_equal)
    return NnunetFolder(target, cases, "" if spec.nnunet else NEARLY)


def _compare_masks(model: Path, folder: Path, images: Path) -> tuple[CaseParity, ...]:
    """Compare the model's masks with those of the folder, as it is adopted again."""
    engine = TorchEngine.wrap(*load_model(model))
    adopted = read_nnunet(folder)
    other = TorchEngine.wrap(adopted.network, adopted.spec)
    cases = []
    for case, files in list_cases(images, engine.spec, adopted.file_ending).items():
        volumes = [read_volume(file) for file in files]
        mask, original = (predict_volume(tool, volumes, PredictOptions()).mask for tool in (other, engine))
        cases.append(compare_masks(case, mask, original, engine.spec))
        say(f"compare {cases[-1].line}")
    return tuple(cases)


def _require_masks(cases: Sequence[CaseParity], least: float) -> None:
    worst = min(cases, key=lambda case: case.equal, default=None)
    if worst is not None and worst.equal < least:
        raise ParityError(
            f"the folder gives other masks than the model: {worst.line}; {worst.equal:.6f} of the voxels are equal, at "
            f"least {least:g} are needed (--least-equal): {NEARLY}"
        )


def _name_configuration(component: Component) -> str:
    return "2d" if _count_dimensions(component) == 2 else "3d_fullres"


def _count_dimensions(component: Component) -> int:
    return len(component.args["strides"][0])


def _list_mirrored(spec: ModelSpec, component: Component) -> tuple[int, ...] | None:
    """The axes along which nnU-Net mirrors by default: those of a model of its own; others are not mirrored here."""
    if spec.nnunet is None or not spec.mirrored:
        return None
    planes = 3 - _count_dimensions(component)
    return tuple(AXES.index(axis) - planes for axis in spec.mirrored)


def _make_plans(spec: ModelSpec, steps: NnunetSteps, component: Component, name: str) -> dict[str, Any]:
    dimensions = _count_dimensions(component)
    forward = [2 - axis for axis in steps.axes]
    window, spacing = list(spec.window or ())[-dimensions:], list(steps.spacing_mm)[-dimensions:]
    resampling = {"data": steps.image, "seg": steps.image, "probabilities": steps.logits}
    configuration: dict[str, Any] = {
        "data_identifier": f"nnUNetPlans_{_name_configuration(component)}",
        "preprocessor_name": PREPROCESSOR,
        "batch_size": 2,
        "patch_size": window,
        "median_image_size_in_voxels": window,
        "spacing": spacing,
        "normalization_schemes": [normalisation.scheme for normalisation in steps.normalisation],
        "use_mask_for_norm": [normalisation.uses_mask for normalisation in steps.normalisation],
        "batch_dice": True,
        "architecture": describe_architecture(component),
    }
    for kind, arguments in resampling.items():
        configuration[f"resampling_fn_{kind}"] = SPLINES
        configuration[f"resampling_fn_{kind}_kwargs"] = _describe_resampling(arguments, is_mask=kind == "seg")
    return {
        "dataset_name": f"Dataset001_{name}",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "NibabelIOWithReorient" if spec.orientation else "SimpleITKIO",
        "transpose_forward": forward,
        "transpose_backward": [int(axis) for axis in np.argsort(forward)],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(number): json.loads(normalisation.model_dump_json(exclude={"scheme", "uses_mask"}))
            for number, normalisation in enumerate(steps.normalisation)
        },
        "configurations": {_name_configuration(component): configuration},
    }


def _describe_resampling(resampling: NnunetResampling, *, is_mask: bool) -> dict[str, Any]:
    return {
        "is_seg": is_mask,
        "order": 1 if is_mask else resampling.order,
        "order_z": resampling.order_z,
        "force_separate_z": resampling.separate_z,
        "separate_z_anisotropy_threshold": resampling.threshold,
    }
