"""Translation of Clara's and TLT's transforms to MONAI's classes: loading, intensities, labels."""

from __future__ import annotations

import math
from typing import Any

from voxflow.migrate.translation import (
    Args,
    Facts,
    Node,
    Translation,
    approximate,
    exact,
    list_fields,
    node,
    translator,
)


@translator("transform", "LoadNifti", "LoadNifty")
def _load_volume(args: Args, facts: Facts) -> Translation:
    return exact(node("LoadImaged", keys=list_fields(args), ensure_channel_first=True))


@translator("transform", "LoadPng")
def _load_png(args: Args, facts: Facts) -> Translation:
    keys = list_fields(args)
    # (rows, columns) as everywhere in Voxflow; MONAI would swap them.
    loader = node("LoadImaged", keys=keys, reader="PILReader", reverse_indexing=False, ensure_channel_first=True)
    return exact(loader, node("EnsureTyped", keys=keys, dtype="$torch.float32"), why="grey PNG, as the loader reads")


@translator("transform", "ConvertToChannelsFirst", "ConvertToChannelsLast", "VolumeTo4dArray", "NPExpandDims")
def _channels(args: Args, facts: Facts) -> Translation:
    return exact(why="nothing to do: channels are first from the loader on")


@translator("transform", "CopyProperties", "LoadResolutionFromNifty", "Load3DShapeFromNumpy")
def _properties(args: Args, facts: Facts) -> Translation:
    return exact(why="nothing to do: MONAI's arrays carry their affine with them")


@translator("transform", "RepeatChannel", "NPRepChannels")
def _repeat(args: Args, facts: Facts) -> Translation:
    repeats = args.get("repeat_times", args.get("repeat"))
    return exact(node("RepeatChanneld", keys=list_fields(args), repeats=repeats))


@translator("transform", "ScaleIntensityRange")
def _scale_range(args: Args, facts: Facts) -> Translation:
    if "a_min" not in args:
        return Translation(verdict="not carried", why=f"a magnitude of {args.get('magnitude')} states no range")
    keys, offset = list_fields(args), args.get("a_offset", 0)
    bounds = {key: args[key] - offset for key in ("a_min", "a_max")} | {key: args[key] for key in ("b_min", "b_max")}
    low, high = sorted((args["b_min"], args["b_max"]))
    is_mirrored = args.get("clip", False) and low != args["b_min"]
    clip = args.get("clip", False) and not is_mirrored
    scale = node("ScaleIntensityRanged", keys=keys, **bounds, clip=clip)
    # MONAI clips to (b_min, b_max) as they stand, which of a range turned round leaves one value.
    cut = node("Lambdad", keys=keys, func=f"$lambda x: x.clamp({low}, {high})")
    return exact(scale, cut) if is_mirrored else exact(scale)


@translator("transform", "CenterData")
def _center(args: Args, facts: Facts) -> Translation:
    def by_channel(value: Any) -> list[float] | None:
        values = value if isinstance(value, list) else [value]
        return None if value is None else values * (facts.in_channels if len(values) == 1 else 1)

    shift, scale = by_channel(args.get("subtrahend")), by_channel(args.get("divisor"))
    return exact(
        node("NormalizeIntensityd", keys=list_fields(args), subtrahend=shift, divisor=scale, channel_wise=True)
    )


@translator("transform", "tlt2:CenterData")
def _center_all(args: Args, facts: Facts) -> Translation:
    """TLT 2 takes mean and deviation of all channels together."""
    shift, scale = args.get("subtrahend"), args.get("divisor")
    if shift is not None and scale is not None:
        return _center(args, facts)
    if isinstance(shift, list) or isinstance(scale, list):
        why = "MONAI has no value a channel beside one of all channels; each channel has its own"
        return approximate(why, *_center(args, facts).nodes)
    return exact(node("NormalizeIntensityd", keys=list_fields(args), subtrahend=shift, divisor=scale))


@translator("transform", "NormalizeNonzeroIntensities")
def _normalize(args: Args, facts: Facts) -> Translation:
    return exact(node("NormalizeIntensityd", keys=list_fields(args), nonzero=True, channel_wise=True))


@translator("transform", "NormalizeChannels")
def _normalize_channels(args: Args, facts: Facts) -> Translation:
    """MONAI counts what is not 0 in all channels or in none, so that the two kinds of channels take a node each."""
    keys, numbers = list_fields(args), args["channels"]
    stated = [(0.0, 0.0, 0.0, 1.0) if values is None else values for values in numbers]
    shifts, scales = [values[2] for values in stated], [values[3] for values in stated]
    by_image = {
        name: [None if values is None else n for values in numbers]
        for name, n in (("subtrahend", 0.0), ("divisor", 1.0))
    }
    clips = [f"x[{n}]" + (f".clamp({values[0]}, {values[1]})" if values else "") for n, values in enumerate(numbers)]
    nodes = []
    if any(numbers):
        nodes.append(node("Lambdad", keys=keys, func=f"$lambda x: torch.stack([{', '.join(clips)}])"))
        nodes.append(node("NormalizeIntensityd", keys=keys, subtrahend=shifts, divisor=scales, channel_wise=True))
    if not all(numbers):
        nodes.insert(0, node("NormalizeIntensityd", keys=keys, **by_image, nonzero=True, channel_wise=True))
    return exact(*nodes)


@translator("transform", "ScaleIntensityOscillation")
def _oscillate(args: Args, facts: Facts) -> Translation:
    factors = {"factors": args["magnitude"], "prob": args.get("probability", 1.0)}
    return exact(node("RandScaleIntensityd", keys=list_fields(args), **factors))


@translator("transform", "ScaleShiftIntensity", "AugmentIntensityRandomScaleShift")
def _scale_shift(args: Args, facts: Facts) -> Translation:
    keys, by_channel = list_fields(args), {"nonzero": True, "channel_wise": True}
    return approximate(
        "the shift is of the scaled image's deviation, one draw for all channels",
        node("RandScaleIntensityd", keys=keys, factors=args.get("scale", 0.1), prob=1.0, channel_wise=True),
        node("RandStdShiftIntensityd", keys=keys, factors=args.get("shift", 0.1), prob=1.0, **by_channel),
    )


@translator("transform", "AddGaussianNoise")
def _noise(args: Args, facts: Facts) -> Translation:
    keys, probability = list_fields(args), args.get("probability", 0.5)
    deviation = args.get("magnitude", math.sqrt(args.get("variance", 0.1)))
    noise = node("RandGaussianNoised", keys=keys, prob=probability, std=deviation, sample_std=True)
    return exact(noise) if "magnitude" in args else approximate("MONAI draws the deviation, not the variance", noise)


@translator("transform", "RandomAppearance")
def _appearance(args: Args, facts: Facts) -> Translation:
    """MONAI's own transforms for the changes that nnU-Net makes, in its order."""
    keys, strength = list_fields(args), args.get("strength", 1.0)
    if not strength:
        return exact()

    def change(name: str, probability: float, **values: Any) -> Node:
        return node(name, keys=keys, prob=probability * strength, **values)

    def spread(low: float, high: float) -> list[float]:
        return [1 + (low - 1) * strength, 1 + (high - 1) * strength]

    sigmas = {f"sigma_{axis}": [0.5, 1.0] for axis in "xyz"[: facts.spatial_dims]}
    exponents = {"gamma": spread(0.7, 1.5), "retain_stats": True}
    return approximate(
        "MONAI changes all channels alike, and the contrast about zero",
        change("RandGaussianNoised", 0.1, std=0.1 * strength),
        change("RandGaussianSmoothd", 0.2, **sigmas),
        change("RandScaleIntensityd", 0.15, factors=0.25 * strength),
        change("RandScaleIntensityd", 0.15, factors=0.25 * strength),
        change("RandSimulateLowResolutiond", 0.25, zoom_range=spread(0.5, 1.0)),
        change("RandAdjustContrastd", 0.1, invert_image=True, **exponents),
        change("RandAdjustContrastd", 0.3, **exponents),
    )


@translator("transform", "AdjustContrast")
def _contrast(args: Args, facts: Facts) -> Translation:
    return approximate(
        "MONAI draws an exponent between 0.5 and 4.5", node("RandAdjustContrastd", keys=list_fields(args), prob=1.0)
    )


@translator("transform", "ThresholdValues")
def _threshold(args: Args, facts: Facts) -> Translation:
    keys = list_fields(args)
    # MONAI's threshold counts what equals it, too.
    return exact(node("Lambdad", keys=keys, func=f"$lambda x: (x > {args.get('threshold', 0.5)}).float()"))


@translator("transform", "ArgmaxAcrossChannels")
def _argmax(args: Args, facts: Facts) -> Translation:
    return exact(node("AsDiscreted", keys=list_fields(args), argmax=True))


@translator("transform", "BratsConvertLabels")
def _brats(args: Args, facts: Facts) -> Translation:
    from voxflow.components import BRATS_VALUES

    classes = args.get("classes", ["TC", "WT", "ET"])
    masks = [" | ".join(f"(x == {value})" for value in BRATS_VALUES[name]) for name in classes]
    # Numbers, not bits: MONAI's losses multiply one-hot masks as they are.
    expression = f"$lambda x: torch.cat([{', '.join(masks)}]).float()"
    return exact(node("Lambdad", keys=list_fields(args), func=expression))


@translator("transform", "SplitBasedOnLabel", "SplitAcrossChannels")
def _split(args: Args, facts: Facts) -> Translation:
    names: Any = args.get("label_names", args.get("channel_names", []))
    names = list(names.values()) if isinstance(names, dict) else list(names)
    why = f"metrics of the bundle see every class at once; {', '.join(map(str, names))} get no field of their own"
    return Translation(verdict="not carried", why=why)


@translator("transform", "AddExtremePointsChannel")
def _extreme_points(args: Args, facts: Facts) -> Translation:
    image, label = args.get("image_field", "image"), args.get("label_field", "label")
    points = node("AddExtremePointsChanneld", keys=[image], label_key=label, sigma=args.get("sigma", 3.0))
    return approximate("MONAI shifts a point by up to pert voxels evenly", points | {"pert": args.get("pert", 0.0)})


@translator("transform", "SaveAsNifti", "WriteNiftyResults")
def _save(args: Args, facts: Facts) -> Translation:
    return Translation(verdict="not carried", why="a look at intermediate images; add SaveImaged where one is wanted")


@translator("transform", "MergeBatchDims")
def _merge(args: Args, facts: Facts) -> Translation:
    return exact(why="nothing to do: MONAI's loader flattens several patches of a case into the batch")
