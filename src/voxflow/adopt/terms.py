"""Says how a model prepares its images, and names its classes, in the terms of nnU-Net's plans; or why it can't."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import ConfigError
from voxflow.prediction import logits_to_labels
from voxflow.spec import NnunetNormalisation, NnunetResampling, NnunetSteps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec

BACKGROUND, IGNORE = "background", "ignore"
ORDERS = {"nearest": 0, "linear": 1, "bspline": 3}
# nnU-Net's CT normalisation always clips; values beyond these are none of an image.
UNBOUNDED = 1e30
MOST_REGIONS = 10
# What no plans.json can say of a model that nnU-Net did not train.
NEARLY = (
    "nnU-Net crops zeros, scales values before it changes the spacing, stretches the spacing so that the grid ends "
    "with the image, and lays windows half a window apart"
)


def make_steps(spec: ModelSpec) -> NnunetSteps:
    """Say how images are prepared and logits brought back; those of a model that nnU-Net trained are its own.

    Raises:
        ConfigError: nnU-Net has no word for a step; all such steps are named at once.
    """
    if spec.nnunet:
        return spec.nnunet
    reasons = _list_reasons(spec)
    normalisation: tuple[NnunetNormalisation, ...] = ()
    try:
        normalisation = _make_normalisation(spec)
    except ConfigError as error:
        reasons.append(error.message)
    if reasons or spec.spacing_mm is None:
        raise ConfigError(f"can't be said in nnU-Net's plans: {'; '.join(reasons)}")
    # nnU-Net's arrays begin with the last axis of an image; so do its plans' spacing and patch.
    i, j, k = spec.spacing_mm
    return NnunetSteps(
        axes=(0, 1, 2),
        spacing_mm=(i, j, k),
        normalisation=normalisation,
        image=NnunetResampling(order=ORDERS[spec.interpolation], separate_z=False),
        logits=NnunetResampling(order=1, separate_z=False),
    )


def make_dataset_json(spec: ModelSpec) -> dict[str, Any]:
    """Name channels and classes as a dataset.json does.

    Raises:
        ConfigError: nnU-Net has no such classes.
    """
    channels = spec.channels or (spec.modality or "image",) * spec.in_channels
    content: dict[str, Any] = {"channel_names": {str(number): name for number, name in enumerate(channels)}}
    names = spec.class_names
    if spec.activation == "softmax":
        # The first class is the background, whatever it is called.
        content["labels"] = {BACKGROUND: 0} | {name: value for value, name in enumerate(names[1:], 1)}
        reserved = set(names[1:]) & {BACKGROUND, IGNORE}
    else:
        order = _find_paint_order(spec)
        content["labels"] = {BACKGROUND: 0} | {
            name: list(values) for name, values in zip(names, spec.regions, strict=True)
        }
        content["regions_class_order"] = order
        reserved = set(names) & {BACKGROUND, IGNORE}
    if reserved:
        raise ConfigError(f"nnU-Net keeps the name {reserved.pop()!r} for what is no class; rename the class")
    return content | {"numTraining": 0, "file_ending": ".nii.gz"}


def _list_reasons(spec: ModelSpec) -> list[str]:
    """What of a model's grid nnU-Net has no word for."""
    reasons = []
    if spec.spacing_mm is None:
        reasons.append("images keep their spacing, and nnU-Net brings all to one")
    if spec.orientation not in (None, "RAS"):
        reasons.append(f"images are turned to {spec.orientation}; nnU-Net turns them to RAS, or not at all")
    if spec.extent != "faces":
        reasons.append("the centres of an image's outer voxels stay where they are, not their faces")
    if spec.antialias:
        reasons.append("images are smoothed before they get coarser (antialias)")
    if spec.monai:
        reasons.append("images are prepared by the steps of a MONAI bundle")
    if spec.takes_own_grids:
        reasons.append("channels lie on grids of their own")
    return reasons


def _make_normalisation(spec: ModelSpec) -> tuple[NnunetNormalisation, ...]:
    transforms = spec.preprocess
    if not transforms:
        return (NnunetNormalisation(scheme="NoNormalization"),) * spec.in_channels
    if len(transforms) > 1:
        names = ", ".join(transform.name for transform in transforms)
        raise ConfigError(f"several transforms of the values ({names}); nnU-Net has one normalisation")
    (transform,) = transforms
    make = _NORMALISATIONS.get(transform.name.removeprefix("monai:").removesuffix("d")) if not transform.path else None
    normalisation = make(transform.args, spec.in_channels) if make else None
    if normalisation is None:
        raise ConfigError(f"{transform.name} with these arguments; nnU-Net has no such normalisation")
    return normalisation


def _scale_range(args: dict[str, Any], channels: int) -> tuple[NnunetNormalisation, ...] | None:
    low, high, offset = args["a_min"], args["a_max"], args.get("a_offset") or 0.0
    least, most = args.get("b_min"), args.get("b_max")
    if least is None or most is None or (most - least) * (high - low) <= 0:
        return None
    deviation = (high - low) / (most - least)
    least_value, most_value = sorted((low - offset, high - offset)) if args.get("clip") else (-UNBOUNDED, UNBOUNDED)
    return (_make_ct(least_value, most_value, low - offset - least * deviation, deviation),) * channels


def _normalise_channels(args: dict[str, Any], channels: int) -> tuple[NnunetNormalisation, ...] | None:
    del channels
    return tuple(_make_ct(*numbers) if numbers else _make_z_score(uses_mask=True) for numbers in args["channels"])


def _centre(args: dict[str, Any], channels: int) -> tuple[NnunetNormalisation, ...] | None:
    means, deviations = args.get("subtrahend"), args.get("divisor")
    if means is None and deviations is None:
        return (_make_z_score(uses_mask=False),) * channels
    if means is None or deviations is None or any(deviation <= 0 for deviation in deviations):
        return None
    pairs = zip(means, deviations, strict=True)
    return tuple(_make_ct(-UNBOUNDED, UNBOUNDED, mean, deviation) for mean, deviation in pairs)


def _normalise_nonzero(args: dict[str, Any], channels: int) -> tuple[NnunetNormalisation, ...] | None:
    del args
    return (_make_z_score(uses_mask=True),) * channels


def _normalise_monai(args: dict[str, Any], channels: int) -> tuple[NnunetNormalisation, ...] | None:
    if args.get("subtrahend") is not None or args.get("divisor") is not None:
        return None
    if channels > 1 and not args.get("channel_wise"):
        return None
    return (_make_z_score(uses_mask=bool(args.get("nonzero"))),) * channels


def _make_ct(low: float, high: float, mean: float, deviation: float) -> NnunetNormalisation:
    return NnunetNormalisation(
        scheme="CTNormalization", mean=mean, std=deviation, percentile_00_5=low, percentile_99_5=high
    )


def _make_z_score(*, uses_mask: bool) -> NnunetNormalisation:
    return NnunetNormalisation(scheme="ZScoreNormalization", uses_mask=uses_mask)


_NORMALISATIONS = {
    "ScaleIntensityRange": _scale_range,
    "NormalizeChannels": _normalise_channels,
    "CenterData": _centre,
    "NormalizeNonzeroIntensities": _normalise_nonzero,
    "NormalizeIntensity": _normalise_monai,
}


def _find_paint_order(spec: ModelSpec) -> list[int]:
    """The value that each region paints over the ones before it, if that gives the model's label map."""
    if not spec.regions:
        raise ConfigError("each class has a sigmoid of its own; nnU-Net's classes exclude each other, or are regions")
    if all(len(values) == 1 for values in spec.regions):
        raise ConfigError("no region has two label values; nnU-Net then takes them for classes that exclude each other")
    if spec.region_values:
        return list(spec.region_values)
    count = len(spec.regions)
    if count > MOST_REGIONS:
        raise ConfigError(f"{count} regions; the order that nnU-Net paints them in is known for {MOST_REGIONS} at most")
    order = [int(value) for value in _paint(np.eye(count, dtype=bool), spec)]
    patterns = np.array(list(product((False, True), repeat=count))).T
    painted = np.zeros(patterns.shape[1], dtype=int)
    for is_inside, value in zip(patterns, order, strict=True):
        painted[is_inside] = value
    if not np.array_equal(painted, _paint(patterns, spec)):
        raise ConfigError("regions that overlap are not painted one over the other in their order, as nnU-Net does")
    return order


def _paint(is_inside: NDArray[np.bool_], spec: ModelSpec) -> NDArray[Any]:
    """The label value of each column of (region, n): those that a voxel inside of these regions gets."""
    logits = np.where(is_inside, np.float32(1), np.float32(-1))
    return logits_to_labels(logits[:, :, None, None], spec).ravel()
