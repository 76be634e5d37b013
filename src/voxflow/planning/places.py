"""Where a plan's values go in a training configuration: JSON paths as ``--set`` takes them, with the values."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from voxflow.config import detect_dialect
from voxflow.findings import FaultyConfigError, Finding
from voxflow.planning.residual import list_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.planning.budget import BudgetPlan
    from voxflow.planning.layout import TrainingLayout
    from voxflow.planning.mirroring import MirrorChoice
    from voxflow.volumes import Fingerprint

NORMALISATION = "NormalizeNonzeroIntensities"
REGIONS = "ConvertToRegions"
CONVERTERS = {REGIONS, "BratsConvertLabels", "SplitAcrossChannels", "SplitBasedOnLabel"}
MONAI_CONVERTER = "ConvertToMultiChannelBasedOnBratsClasses"
STEPS_A_VALIDATION = 250
APPEARANCE, TURNING_CROP, FLIP = "RandomAppearance", "FastPosNegRatioCropROI", "RandomSpatialFlip"
CROP, LEVELS = "train.pre_transforms", "train.model.args"
RESIDUAL = "ResidualEncoderUNet"
# Hounsfield units mean the same in every image, so that all are scaled alike: by what lies inside the labels.
COMPARABLE = ("CT",)


def place_sizes(
    config: Mapping[str, Any], layout: TrainingLayout, workers: int | None, *, path: Path
) -> dict[str, Any]:
    """Patch, batch and workers, wherever a configuration states them.

    Args:
        config: the content of a configuration of Clara 3's form.
        layout: to put in.
        workers: threads that prepare batches; None: as they are.
        path: of the configuration.

    Raises:
        ConfigError: it has no crop or no image pipeline.
    """
    patch = list(layout.patch)
    values: dict[str, Any] = {}
    crops = [n for n, crop in enumerate(_value_at(config, CROP, path)) if _is_crop(crop)]
    if not crops:
        message = "no transform takes patches; nothing says where a patch size goes"
        raise FaultyConfigError.of(Finding("missing-component", "error", path, CROP, message))
    values[f"{CROP}[{crops[-1]}].args.size"] = patch
    pipeline = _value_at(config, "train.image_pipeline.args", path)
    if -1 not in pipeline.get("output_crop_size", [-1]):
        values["train.image_pipeline.args.output_crop_size"] = patch
    of_a_case = _value_at(config, CROP, path)[crops[-1]]["args"].get("batch_size", 1)
    if layout.patches_a_case > 1:
        of_a_case = values[f"{CROP}[{crops[-1]}].args.batch_size"] = layout.patches_a_case
    # A crop that takes several patches of a case fills a batch by itself: the two numbers are multiplied.
    values["train.image_pipeline.args.output_batch_size"] = max(1, layout.batch // of_a_case)
    if workers is not None:
        values["train.image_pipeline.args.num_workers"] = workers
    if "roi_size" in _value_at(config, "validate.inferer", path).get("args", {}):
        values["validate.inferer.args.roi_size"] = patch
    return values


def place_plan(
    config: Mapping[str, Any], layout: TrainingLayout, fingerprint: Fingerprint, *, path: Path
) -> dict[str, Any]:
    """Place everything that ``plan: auto`` decides: sizes, network, scaling of intensities, epochs between validations.

    Args:
        config: the content of a configuration of Clara 3's form.
        layout: patch, batch and network.
        fingerprint: the data's, which decides the scaling.
        path: of the configuration, for errors.

    Returns:
        Values by JSON path, as ``--set`` takes them.

    Raises:
        ConfigError: the configuration has no crop or no image pipeline.
    """
    values = place_sizes(config, layout, None, path=path)
    network = RESIDUAL if layout.preset else _value_at(config, "train.model", path).get("name")
    arguments = _describe_residual_encoder(layout) if network == RESIDUAL else _describe_plain_unet(layout)
    values |= {f"{LEVELS}.{name}": value for name, value in arguments.items()}
    steps = ceil(max(1, fingerprint.labelled) / layout.cases_a_step)
    values["num_training_epoch_per_valid"] = ceil(STEPS_A_VALIDATION / steps)
    scaling = _choose_scaling(fingerprint)
    for section in ("train", "validate") if scaling else ():
        json_path = f"{section}.pre_transforms"
        for number, transform in enumerate(_value_at(config, json_path, path)):
            if transform.get("name") == NORMALISATION:
                values |= {
                    f"{json_path}[{number}].name": scaling["name"],
                    f"{json_path}[{number}].args": scaling["args"],
                }
    return values


def _describe_plain_unet(layout: TrainingLayout) -> dict[str, Any]:
    return {
        "nf_enc": list(layout.filters),
        "strides": [list(step) for step in layout.strides],
        "kernels": [list(size) for size in layout.kernels],
    }


def _describe_residual_encoder(layout: TrainingLayout) -> dict[str, Any]:
    """The layout's levels with the blocks, the norm and the activation of nnU-Net's presets ResEncM and ResEncL."""
    levels = len(layout.filters)
    return {
        "features_per_stage": list(layout.filters),
        "strides": [[1, 1, 1], *(list(step) for step in layout.strides)],
        "kernel_sizes": [list(size) for size in layout.kernels],
        "n_blocks_per_stage": list_blocks(levels),
        "n_conv_per_stage_decoder": [1] * (levels - 1),
        "conv_bias": True,
        "norm": "instance",
        "norm_args": {"eps": 1e-5, "affine": True},
        "activation": "LeakyReLU",
        "activation_args": {"inplace": True},
    }


def place_network(config: Mapping[str, Any], layout: TrainingLayout, *, path: Path) -> dict[str, Any]:
    """Place the network that a preset names over another one's name and arguments; :func:`place_plan` adds its own.

    Args:
        config: the content of a configuration of Clara 3's form.
        layout: whose network it is.
        path: of the configuration, for errors.

    Returns:
        Nothing where the layout is of the configuration's network.
    """
    model = _value_at(config, "train.model", path)
    if not layout.preset or model.get("name") == RESIDUAL:
        return {}
    kept = {key: value for key, value in model.get("args", {}).items() if key == "final_activation"}
    return {"train.model": {"name": RESIDUAL, "args": kept}}


def place_recipe(
    config: Mapping[str, Any], budget: BudgetPlan | None, mirror: MirrorChoice | None, *, path: Path
) -> dict[str, Any]:
    """Place what the minutes and the classes decide of how images are varied.

    Args:
        config: the content of a configuration of Clara 3's form.
        budget: how strongly.
        mirror: along which axes images may be mirrored.
        path: of the configuration, for errors.

    Returns:
        Nothing where no transform is RandomAppearance: a configuration of before this recipe stays as it is.
    """
    transforms = _value_at(config, CROP, path)
    by_name = {step.get("name"): f"{CROP}[{number}].args" for number, step in enumerate(transforms)}
    if APPEARANCE not in by_name or budget is None or mirror is None:
        return {}
    values: dict[str, Any] = {f"{by_name[APPEARANCE]}.strength": budget.strength}
    if TURNING_CROP in by_name:
        values[f"{by_name[TURNING_CROP]}.rotation_degree"] = budget.rotation_degree
        values[f"{by_name[TURNING_CROP]}.scale_factor"] = budget.scale_factor
        if budget.bend_mm:
            values[f"{by_name[TURNING_CROP]}.deform"] = True
            values[f"{by_name[TURNING_CROP]}.deform_magnitude"] = budget.bend_mm
    if FLIP in by_name:
        values[f"{by_name[FLIP]}.axes"] = list(mirror.axes)
        if not mirror.axes:
            values[f"{by_name[FLIP]}.probability"] = 0.0
    return values


def place_regions(config: Mapping[str, Any], regions: Mapping[str, Sequence[int]], *, path: Path) -> dict[str, Any]:
    """Place what a training of regions needs: a mask for each region, each judged by itself.

    Args:
        config: the content of a configuration of Clara 3's or TLT 2's form.
        regions: label values by name.
        path: of the configuration, for errors.

    Returns:
        Nothing where there are no regions, or where the configuration makes several channels of its label itself.

    Raises:
        ConfigError: it has Clara 4's form, and would learn regions as values that exclude each other.
    """
    train, validate = config.get("train"), config.get("validate")
    if not regions or not isinstance(train, dict) or not isinstance(validate, dict):
        return {}
    chains = {"train": train.get("pre_transforms", []), "validate": validate.get("pre_transforms", [])}
    steps = [step for chain in chains.values() for step in chain if isinstance(step, dict)]
    dialect = detect_dialect(config)
    network = {"clara3": "train.model.args", "tlt2": "net_config"}.get(dialect, "")
    if any(_makes_channels(step) for step in steps) or _judges_own_masks(steps, config, network):
        return {}
    if not network:
        names = ", ".join(regions)
        message = f"the labels hold regions ({names}), which this configuration learns as if they excluded each other"
        fix = "make a mask of each in both chains and take sigmoids, or write regions: false below train in params.yaml"
        raise FaultyConfigError.of(Finding("regions", "error", path, "train.pre_transforms", message, fix))
    values = {name: list(members) for name, members in regions.items()}
    args = {"fields": ["label"], "regions": values} if dialect == "tlt2" else {"fields": "label", "regions": values}
    step = {"name": REGIONS, **args} if dialect == "tlt2" else {"name": REGIONS, "args": args}
    return {
        **{f"{section}.pre_transforms": [*chain, step] for section, chain in chains.items()},
        f"{network}.final_activation": "sigmoid",
        "train.loss.is_onehot_targets" if dialect == "tlt2" else "train.loss.args.is_onehot_targets": True,
    }


def _makes_channels(step: Mapping[str, Any]) -> bool:
    plain = str(step.get("name")).partition("#")[0].rpartition(".")[2]
    return plain in CONVERTERS or plain.startswith(MONAI_CONVERTER)


def _judges_own_masks(steps: Sequence[Mapping[str, Any]], config: Mapping[str, Any], network: str) -> bool:
    """Whether a user's own class may make the masks: the network then says already that each is judged by itself."""
    if not any(step.get("path") for step in steps):
        return False
    value: Any = config
    for part in network.split(".") if network else ():
        value = value.get(part, {}) if isinstance(value, dict) else {}
    return not network or (isinstance(value, dict) and value.get("final_activation") == "sigmoid")


def place_evaluation(config: Mapping[str, Any], layout: TrainingLayout, fingerprint: Fingerprint) -> dict[str, Any]:
    """Place the same in a configuration of validation and inference: its window and its scaling.

    Args:
        config: the content of config_validation.json.
        layout: patch, batch and network.
        fingerprint: the data's, which decides the scaling.
    """
    values: dict[str, Any] = {}
    if "roi_size" in config.get("inferer", {}).get("args", {}):
        values["inferer.args.roi_size"] = list(layout.patch)
    scaling = _choose_scaling(fingerprint)
    for number, transform in enumerate(config.get("pre_transforms", []) if scaling else []):
        if transform.get("name") == NORMALISATION:
            json_path = f"pre_transforms[{number}]"
            values |= {f"{json_path}.name": scaling["name"], f"{json_path}.args": scaling["args"]}
    return values


def _choose_scaling(fingerprint: Fingerprint) -> dict[str, Any]:
    """One scaling for all images, where their units say that it may be; else {}: each by its own mean."""
    if fingerprint.channels > 1:
        return _choose_channel_scaling(fingerprint)
    if fingerprint.modality not in COMPARABLE or fingerprint.channels != 1 or not fingerprint.labelled:
        return {}
    values = fingerprint.intensity[0]
    low, high, deviation = values.percentile_00_5, values.percentile_99_5, values.deviation
    if not (low < high and deviation > 0):
        return {}
    ends = {f"b_{end}": round((bound - values.mean) / deviation, 4) for end, bound in (("min", low), ("max", high))}
    args = {"fields": "image", "a_min": low, "a_max": high, **ends, "clip": True}
    return {"name": "ScaleIntensityRange", "args": args}


def _choose_channel_scaling(fingerprint: Fingerprint) -> dict[str, Any]:
    """Channels in Hounsfield units by the numbers of all images, the others each by its own mean."""
    scales: list[list[float] | None] = []
    for values, modality in zip(fingerprint.intensity, fingerprint.modalities, strict=False):
        ends = (values.percentile_00_5, values.percentile_99_5)
        is_comparable = modality in COMPARABLE and fingerprint.labelled and ends[0] < ends[1] and values.deviation > 0
        scales.append([*ends, values.mean, values.deviation] if is_comparable else None)
    if not any(scales) or len(scales) != fingerprint.channels:
        return {}
    return {"name": "NormalizeChannels", "args": {"fields": "image", "channels": scales}}


def _is_crop(transform: Any) -> bool:
    return isinstance(transform, dict) and isinstance(transform.get("args", {}).get("size"), list)


def _value_at(config: Mapping[str, Any], json_path: str, path: Path) -> Any:
    """What stands at a place."""
    value: Any = config
    for part in json_path.split("."):
        if not isinstance(value, dict) or part not in value:
            message = f"no {part!r} there; planning reads configurations of Clara 3's form"
            raise FaultyConfigError.of(Finding("missing-component", "error", path, json_path, message))
        value = value[part]
    return value
