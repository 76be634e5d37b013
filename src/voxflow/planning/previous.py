"""The second of two stages in a configuration: the first stage's mask goes through the same changes as the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.components import PREVIOUS_FIELD
from voxflow.errors import ConfigError
from voxflow.findings import FaultyConfigError, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LOADER, CROP, FLIP, SHOW = "LoadNifti", "FastPosNegRatioCropROI", "RandomSpatialFlip", "ShowPreviousMask"
CARRIERS = (LOADER, CROP, FLIP)
# Those that leave voxels where they are.
KEEPERS = (
    *("ConvertToChannelsFirst", "NormalizeNonzeroIntensities", "NormalizeChannels", "ScaleIntensityRange"),
    *("RandomAppearance", "ScaleShiftIntensity"),
)
DEEPEST_SHARE = 0.25  # of the median image's voxels, that nnU-Net's first stage covers by a patch
LEAST_FACTOR = 2  # that a first stage needs fewer voxels, else nnU-Net has none


def place_previous(config: Mapping[str, Any], values: Sequence[int], *, path: Path) -> dict[str, Any]:
    """Place what the second of two stages needs: the mask is loaded, cropped and mirrored, and shown to the network.

    Transforms keep their places, so that what names them by number still does.

    Args:
        config: the content of a configuration of Clara 3's form.
        values: the label values that become channels.
        path: of the configuration.

    Returns:
        Both chains, as ``--set`` takes them.

    Raises:
        ConfigError: a transform might move the image's voxels and leave the mask's where they were.
    """
    if not values:
        raise ConfigError("previous: the labels name no class that a first stage could show", path=path)
    chains = {}
    for section in ("train", "validate"):
        steps = (config.get(section) or {}).get("pre_transforms") or []
        # voxflow plan --apply has written it, where plan: auto comes back after plan: config.
        steps = steps[:-1] if steps and steps[-1].get("name") == SHOW else steps
        chain = [_carry_mask(step, f"{section}.pre_transforms[{n}]", path) for n, step in enumerate(steps)]
        shown: dict[str, Any] = {"field": "image", "values": list(values)}
        chain.append({"name": SHOW, "args": shown | ({"disturbance": 1.0} if section == "train" else {})})
        chains[f"{section}.pre_transforms"] = chain
    return chains


def _carry_mask(step: Mapping[str, Any], where: str, path: Path) -> dict[str, Any]:
    """Let a transform take the mask along."""
    name = step.get("name")
    if name not in (*CARRIERS, *KEEPERS) or step.get("path"):
        known = ", ".join((*CARRIERS, *KEEPERS))
        message = f"train.previous: nothing says how {name} changes the mask of the first stage; known are {known}"
        raise FaultyConfigError.of(Finding("unknown-component", "error", path, where, message))
    if name in KEEPERS:
        return dict(step)
    fields = step.get("args", {}).get("fields", [])
    names = [name for name in ([fields] if isinstance(fields, str) else fields) if name != PREVIOUS_FIELD]
    return {**step, "args": {**step.get("args", {}), "fields": [*names, PREVIOUS_FIELD]}}


def describe_coverage(patch_voxels: float, image_voxels: float) -> str:
    """Say that a patch covers little of the image, by nnU-Net's rule for a first stage of a lower resolution.

    Returns:
        Empty where nnU-Net would have no first stage: its patch is to cover a quarter of the image, in an image of half
        as many voxels or fewer.

    Example:
        >>> describe_coverage(96**3, 512 * 512 * 100)
        "the patch covers 3% of the median image's voxels: two stages are an option (docs/two-stages.md)"
        >>> describe_coverage(96**3, 128**3)
        ''
    """
    share = patch_voxels / image_voxels
    if share * LEAST_FACTOR > DEEPEST_SHARE:
        return ""
    return f"the patch covers {share:.0%} of the median image's voxels: two stages are an option (docs/two-stages.md)"
