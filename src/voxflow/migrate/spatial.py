"""Translation of Clara's and TLT's transforms of the grid to MONAI's classes: resampling, flips, turns, crops."""

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
    return exact(node("RandAxisFlipd", keys=list_fields(args), prob=args.get("probability", 0.5)))


@translator("transform", "RandomSpatialFlip")
def _spatial_flip(args: Args, facts: Facts) -> Translation:
    keys, probability = list_fields(args), args.get("probability", 0.5)
    axes = [axis for axis in range(facts.spatial_dims) if "ijk"[axis] in args.get("axes", "ijk")]
    return exact(*(node("RandFlipd", keys=keys, prob=probability, spatial_axis=axis) for axis in axes))


@translator("transform", "FlipAxisRandom")
def _one_flip(args: Args, facts: Facts) -> Translation:
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
    start = args.get("ratio_start", 1.0)
    nodes = _padded_crop(args | {"pos": start, "neg": 1.0}, list(args["size"]))
    return approximate(f"the ratio stays at its first value, {start}; a bundle's transforms know no epoch", *nodes)


@translator("transform", "FastPosNegRatioCropROI", "TransformVolumeCropROIFastPosNegRatio")
def _bent_crop(args: Args, facts: Facts) -> Translation:
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
    keys, size = list_fields(args), args["size"]
    pad = node("SpatialPadd", keys=keys, spatial_size=size)
    return exact(pad, node("RandSpatialCropd", keys=keys, roi_size=size, random_center=True, random_size=False))


@translator("transform", "CropSubVolumeCenter")
def _center_crop(args: Args, facts: Facts) -> Translation:
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
    label, size = args.get("label_field", "label"), args["size"]
    keys = list_fields(args, args.get("image_field", "image"), label)
    return approximate(
        "a box about a random voxel of the object, not about its middle",
        *_padded_crop({"fields": keys, "label_field": label, "pos": 1.0, "neg": 0.0}, list(size)),
    )


@translator("transform", "CropRandomSizeWithDisplacement", "CropRandomSubImageInRange")
def _random_size(args: Args, facts: Facts) -> Translation:
    keys = list_fields(args, *([args["image_field"]] if "image_field" in args else []))
    lower = args["lower_size"]
    shares = all(float(n) <= 1 for n in (lower if isinstance(lower, list) else [lower]))
    why = "the box may lie anywhere in the image, not only within max_displacement of its middle"
    if shares:
        scaled = node("RandScaleCropd", keys=keys, roi_scale=lower, random_center=True, random_size=True)
        return approximate(why, scaled)
    return approximate(why, node("RandSpatialCropd", keys=keys, roi_size=lower, random_center=True, random_size=True))
