"""Translation of Clara's and TLT's transforms to MONAI's classes.

Longer than most files: it is one table, an entry a transform.
"""

from __future__ import annotations

import math
from typing import Any

from voxflow.migrate.translation import (
    Args,
    Facts,
    Node,
    Translation,
    approximate,
    choose_modes,
    exact,
    list_fields,
    node,
    translator,
)


@translator("transform", "LoadNifti", "LoadNifty")
def _load_volume(args: Args, facts: Facts) -> Translation:
    del facts
    return exact(node("LoadImaged", keys=list_fields(args), ensure_channel_first=True))


@translator("transform", "LoadPng")
def _load_png(args: Args, facts: Facts) -> Translation:
    del facts
    keys = list_fields(args)
    # (rows, columns) as everywhere in Voxflow; MONAI would swap them.
    loader = node("LoadImaged", keys=keys, reader="PILReader", reverse_indexing=False, ensure_channel_first=True)
    return exact(loader, node("EnsureTyped", keys=keys, dtype="$torch.float32"), why="grey PNG, as the loader reads")


@translator("transform", "ConvertToChannelsFirst", "ConvertToChannelsLast", "VolumeTo4dArray", "NPExpandDims")
def _channels(args: Args, facts: Facts) -> Translation:
    del args, facts
    return exact(why="nothing to do: channels are first from the loader on")


@translator("transform", "CopyProperties", "LoadResolutionFromNifty", "Load3DShapeFromNumpy")
def _properties(args: Args, facts: Facts) -> Translation:
    del args, facts
    return exact(why="nothing to do: MONAI's arrays carry their affine with them")


@translator("transform", "RepeatChannel", "NPRepChannels")
def _repeat(args: Args, facts: Facts) -> Translation:
    del facts
    repeats = args.get("repeat_times", args.get("repeat"))
    return exact(node("RepeatChanneld", keys=list_fields(args), repeats=repeats))


@translator("transform", "ScaleIntensityRange")
def _scale_range(args: Args, facts: Facts) -> Translation:
    del facts
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
    del facts
    return exact(node("NormalizeIntensityd", keys=list_fields(args), nonzero=True, channel_wise=True))


@translator("transform", "NormalizeChannels")
def _normalize_channels(args: Args, facts: Facts) -> Translation:
    """MONAI counts what is not 0 in all channels or in none, so that the two kinds of channels take a node each."""
    del facts
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
    del facts
    factors = {"factors": args["magnitude"], "prob": args.get("probability", 1.0)}
    return exact(node("RandScaleIntensityd", keys=list_fields(args), **factors))


@translator("transform", "ScaleShiftIntensity", "AugmentIntensityRandomScaleShift")
def _scale_shift(args: Args, facts: Facts) -> Translation:
    del facts
    keys, by_channel = list_fields(args), {"nonzero": True, "channel_wise": True}
    return approximate(
        "the shift is of the scaled image's deviation, one draw for all channels",
        node("RandScaleIntensityd", keys=keys, factors=args.get("scale", 0.1), prob=1.0, channel_wise=True),
        node("RandStdShiftIntensityd", keys=keys, factors=args.get("shift", 0.1), prob=1.0, **by_channel),
    )


@translator("transform", "AddGaussianNoise")
def _noise(args: Args, facts: Facts) -> Translation:
    del facts
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
    del facts
    return approximate(
        "MONAI draws an exponent between 0.5 and 4.5", node("RandAdjustContrastd", keys=list_fields(args), prob=1.0)
    )


@translator("transform", "ThresholdValues")
def _threshold(args: Args, facts: Facts) -> Translation:
    del facts
    keys = list_fields(args)
    # MONAI's threshold counts what equals it, too.
    return exact(node("Lambdad", keys=keys, func=f"$lambda x: (x > {args.get('threshold', 0.5)}).float()"))


@translator("transform", "ArgmaxAcrossChannels")
def _argmax(args: Args, facts: Facts) -> Translation:
    del facts
    return exact(node("AsDiscreted", keys=list_fields(args), argmax=True))


@translator("transform", "BratsConvertLabels")
def _brats(args: Args, facts: Facts) -> Translation:
    del facts
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
    del facts
    why = f"metrics of the bundle see every class at once; {', '.join(map(str, names))} get no field of their own"
    return Translation(verdict="not carried", why=why)


@translator("transform", "ScaleToShape", "NPResizeImage")
def _resize(args: Args, facts: Facts) -> Translation:
    keys = list_fields(args)
    size: list[int] = args["target_shape"] if "target_shape" in args else args["output_shape"]
    if facts.spatial_dims == 3:
        modern = choose_modes(keys, "trilinear", "nearest-exact")
        return exact(node("Resized", keys=keys, spatial_size=size, mode=modern))
    # MONAI's own smoothing is a Gaussian of another width, so torch's is called as Voxflow calls it.
    expression = (
        f"$lambda x: torch.nn.functional.interpolate(x[None].float(), size={tuple(size)}, mode='bilinear', "
        "antialias=True)[0]"
    )
    return exact(node("Lambdad", keys=keys, func=expression))


@translator("transform", "ScaleByResolution", "ResampleVolume")
def _resolution(args: Args, facts: Facts) -> Translation:
    del facts
    keys = list_fields(args)
    target = args.get("target_resolution")
    if not isinstance(target, list | tuple):
        return Translation(verdict="not carried", why=f"the resolution {target!r} is named by a key of the sample")
    is_label = bool(args.get("is_label"))
    interpolation = ["nearest"] * len(keys) if is_label else choose_modes(keys, "bilinear")
    why = "the same spacing; MONAI rounds the grid's size and edge in its own way"
    return approximate(why, node("Spacingd", keys=keys, pixdim=target, mode=interpolation))


@translator("transform", "RandomAxisFlip", "NPRandomFlip3D")
def _axis_flip(args: Args, facts: Facts) -> Translation:
    del facts
    return exact(node("RandAxisFlipd", keys=list_fields(args), prob=args.get("probability", 0.5)))


@translator("transform", "RandomSpatialFlip")
def _spatial_flip(args: Args, facts: Facts) -> Translation:
    keys, probability = list_fields(args), args.get("probability", 0.5)
    axes = [axis for axis in range(facts.spatial_dims) if "ijk"[axis] in args.get("axes", "ijk")]
    return exact(*(node("RandFlipd", keys=keys, prob=probability, spatial_axis=axis) for axis in axes))


@translator("transform", "FlipAxisRandom")
def _one_flip(args: Args, facts: Facts) -> Translation:
    del facts
    axes = args.get("axis", [0, 1, 2])
    several = axes if isinstance(axes, list) else [axes]
    return exact(*(node("RandFlipd", keys=list_fields(args), prob=0.5, spatial_axis=axis) for axis in several))


@translator("transform", "RandomRotate3D", "NPRandomRot90_XY")
def _quarter_turns(args: Args, facts: Facts) -> Translation:
    keys, probability = list_fields(args), args.get("probability", 0.5)
    quarter = node("RandRotate90d", keys=keys, prob=probability, max_k=3, spatial_axes=[0, 1])
    if facts.patch is None:
        return approximate("an image that is not square in the plane changes its shape by a quarter turn", quarter)
    if facts.patch[0] == facts.patch[1]:
        return exact(quarter)
    turn = "$lambda x: torch.rot90(x, 2, (1, 2))"
    return exact(node("RandLambdad", keys=keys, prob=probability, func=turn), why="the patch is not square: half turns")


@translator("transform", "RandomRotate2D")
def _rotate(args: Args, facts: Facts) -> Translation:
    return _turn(args, facts, is_drawn=args.get("is_random", True))


@translator("transform", "NP2DRotate")
def _rotate_radiograph(args: Args, facts: Facts) -> Translation:
    return _turn(args, facts, is_drawn=args.get("random", False))


def _turn(args: Args, facts: Facts, *, is_drawn: bool) -> Translation:
    keys, angle = list_fields(args), math.radians(float(args["angle"]))
    shared: dict[str, Any] = {"keep_size": True, "mode": choose_modes(keys, "bilinear"), "padding_mode": "border"}
    if is_drawn:
        turn = "range_x" if facts.spatial_dims == 2 else "range_z"
        return exact(node("RandRotated", keys=keys, prob=1.0, **{turn: angle}, **shared))
    # MONAI turns the other way round.
    fixed: Any = -angle if facts.spatial_dims == 2 else [0.0, 0.0, -angle]
    return exact(node("Rotated", keys=keys, angle=fixed, **shared))


@translator("transform", "RandomZoom", "NPRandomZoom3D")
def _zoom(args: Args, facts: Facts) -> Translation:
    keys = list_fields(args)
    low, high = args.get("lower_limits", 0.9), args.get("upper_limits", 1.1)
    image = "trilinear" if facts.spatial_dims == 3 else "bilinear"
    zoom = node(
        "RandZoomd",
        keys=keys,
        prob=args.get("probability", 1.0),
        min_zoom=low,
        max_zoom=high,
        mode=choose_modes(keys, image),
        padding_mode="constant",
    )
    return approximate("MONAI rounds the zoomed size to whole voxels, and draws every axis apart from a list", zoom)


@translator("transform", "FastCropByPosNegRatio", "CropByPosNegRatio", "CropByPosNegRatioLabelOnly")
def _ratio_crop(args: Args, facts: Facts) -> Translation:
    nodes = _padded_crop(args, list(args["size"]))
    if args.get("classes_alike"):
        return approximate("centres fall on every labelled voxel alike, not on every class", *nodes)
    if facts.one_hot:
        return approximate("MONAI takes the label's first channel for the background", *nodes)
    return exact(*nodes)


@translator("transform", "CropSubVolumePosNegRatioCtrlEpoch")
def _ratio_by_epoch(args: Args, facts: Facts) -> Translation:
    del facts
    start = args.get("ratio_start", 1.0)
    nodes = _padded_crop(args | {"pos": start, "neg": 1.0}, list(args["size"]))
    return approximate(f"the ratio stays at its first value, {start}; a bundle's transforms know no epoch", *nodes)


@translator("transform", "FastPosNegRatioCropROI", "TransformVolumeCropROIFastPosNegRatio")
def _bent_crop(args: Args, facts: Facts) -> Translation:
    del facts
    size, keys = list(args["size"]), _crop_keys(args)
    turn = math.radians(float(args.get("rotation_degree", 15.0))) if args.get("rotation") else 0.0
    scale = float(args.get("scale_factor", 0.1)) if args.get("scale") else 0.0
    if not turn and not scale and not args.get("deform"):
        why = "Voxflow interpolates each patch about its centre, half a voxel aside where a size is even"
        return approximate(why, *_padded_crop(args, size))
    affine = node(
        "RandAffined",
        keys=keys,
        prob=1.0,
        spatial_size=size,
        rotate_range=[turn] * 3 if turn else None,
        scale_range=[scale] * 3 if scale else None,
        mode=choose_modes(keys, "bilinear"),
        padding_mode="zeros",
    )
    why = "crop and turn are two interpolations instead of one; angles are on the voxel grid, not in mm; every axis is "
    why += "scaled by its own draw" + ("; deform is left out" if args.get("deform") else "")
    return approximate(why, *_padded_crop(args, _margin(size, turn, scale)), affine)


def _margin(size: list[int], turn: float, scale: float) -> list[int]:
    """A patch large enough that a turned and scaled one of ``size`` lies inside it."""
    side = math.sin(turn) * (1 + math.sin(turn))
    return [math.ceil((n + side * (sum(size) - n)) * (1 + scale)) for n in size]


def _crop_keys(args: Args) -> list[str]:
    label = args.get("label_field", "label")
    return list_fields(args, *([args["image_field"]] if "image_field" in args else []), label)


def _padded_crop(args: Args, size: list[int]) -> tuple[Node, Node]:
    keys, label = _crop_keys(args), args.get("label_field", "label")
    crop = node(
        "RandCropByPosNegLabeld",
        keys=keys,
        label_key=label,
        spatial_size=size,
        pos=args.get("pos", 1.0),
        neg=args.get("neg", 1.0),
        num_samples=args.get("batch_size", 1),
    )
    return node("SpatialPadd", keys=keys, spatial_size=size), crop


@translator("transform", "CropFixedSizeRandomCenter", "CropSubVolumeRandomWithinBounds")
def _random_crop(args: Args, facts: Facts) -> Translation:
    del facts
    keys, size = list_fields(args), args["size"]
    pad = node("SpatialPadd", keys=keys, spatial_size=size)
    return exact(pad, node("RandSpatialCropd", keys=keys, roi_size=size, random_center=True, random_size=False))


@translator("transform", "CropSubVolumeCenter")
def _center_crop(args: Args, facts: Facts) -> Translation:
    del facts
    crop = node("ResizeWithPadOrCropd", keys=list_fields(args), spatial_size=args["size"])
    why = describe_centre_crop(args["size"])
    return approximate(why, crop) if why else exact(crop)


def describe_centre_crop(size: list[int]) -> str:
    """Say how MONAI's crop about the centre differs from Voxflow's; empty where it does not.

    Args:
        size: voxels along each spatial axis; -1 keeps an axis whole.
    """
    is_odd = any(n > 0 and n % 2 for n in size)
    return "MONAI cuts an odd size one voxel aside out of an even number of voxels" if is_odd else ""


@translator("transform", "CropForegroundObject")
def _foreground(args: Args, facts: Facts) -> Translation:
    del facts
    label, size = args.get("label_field", "label"), args["size"]
    keys = list_fields(args, args.get("image_field", "image"), label)
    return approximate(
        "a box about a random voxel of the object, not about its middle",
        *_padded_crop({"fields": keys, "label_field": label, "pos": 1.0, "neg": 0.0}, list(size)),
    )


@translator("transform", "CropRandomSizeWithDisplacement", "CropRandomSubImageInRange")
def _random_size(args: Args, facts: Facts) -> Translation:
    del facts
    keys = list_fields(args, *([args["image_field"]] if "image_field" in args else []))
    lower = args["lower_size"]
    shares = all(float(n) <= 1 for n in (lower if isinstance(lower, list) else [lower]))
    why = "the box may lie anywhere in the image, not only within max_displacement of its middle"
    if shares:
        scaled = node("RandScaleCropd", keys=keys, roi_scale=lower, random_center=True, random_size=True)
        return approximate(why, scaled)
    return approximate(why, node("RandSpatialCropd", keys=keys, roi_size=lower, random_center=True, random_size=True))


@translator("transform", "AddExtremePointsChannel")
def _extreme_points(args: Args, facts: Facts) -> Translation:
    del facts
    image, label = args.get("image_field", "image"), args.get("label_field", "label")
    points = node("AddExtremePointsChanneld", keys=[image], label_key=label, sigma=args.get("sigma", 3.0))
    return approximate("MONAI shifts a point by up to pert voxels evenly", points | {"pert": args.get("pert", 0.0)})


@translator("transform", "SaveAsNifti", "WriteNiftyResults")
def _save(args: Args, facts: Facts) -> Translation:
    del args, facts
    return Translation(verdict="not carried", why="a look at intermediate images; add SaveImaged where one is wanted")


@translator("transform", "MergeBatchDims")
def _merge(args: Args, facts: Facts) -> Translation:
    del args, facts
    return exact(why="nothing to do: MONAI's loader flattens several patches of a case into the batch")
