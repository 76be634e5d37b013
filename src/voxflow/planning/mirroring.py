"""Chooses the axes along which a training may mirror images: those that exchange no two classes.

A class that its name puts on one side ("left kidney") becomes its counterpart in a mirror image, and so does a class
that has a counterpart of its own size always on the same side of it, whatever the two are called. A training that does
not see its cases very often mirrors left and right alone: a body looks alike there, and upside down it does not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.volumes import Fingerprint

AxisName = Literal["i", "j", "k"]
AXES: tuple[AxisName, ...] = get_args(AxisName)
# Letters of an orientation such as LPS by the words for either end of that axis.
SIDES = {
    "LR": {"left", "right", "l", "r", "lt", "rt", "lh", "rh", "lft", "rgt", "links", "rechts", "sinister", "dexter"},
    "AP": {"anterior", "posterior", "ant", "post", "ventral", "dorsal", "front", "back"},
    "IS": {"inferior", "superior", "inf", "sup", "lower", "upper", "cranial", "caudal", "top", "bottom"},
}
# Digits belong to their word: L1 is a vertebra and no side.
WORD = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*")


class MirrorChoice(BaseModel):
    """The axes to mirror along.

    Attributes:
        axes: of the resampled volumes' arrays.
        reasons: why each of the others is left out, by axis.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    axes: tuple[AxisName, ...]
    reasons: dict[AxisName, str]

    @property
    def line(self) -> str:
        """One line for a person."""
        omitted = [f"not {axis}: {reason}" for axis, reason in sorted(self.reasons.items())]
        return "; ".join([", ".join(self.axes) or "none", *omitted])

    def leave_out(self, axes: Iterable[int], reason: str) -> MirrorChoice:
        """Return the choice without some axes (0: i)."""
        names = [AXES[axis] for axis in axes]
        kept = tuple(axis for axis in self.axes if axis not in names)
        return MirrorChoice(axes=kept, reasons=self.reasons | dict.fromkeys(names, reason))


def choose_mirror_axes(
    fingerprint: Fingerprint, names: Iterable[str] = (), orientation: str | None = "LPS", *, all_axes: bool = True
) -> MirrorChoice:
    """Choose the axes that exchange no two classes.

    Args:
        fingerprint: its ``opposed`` are classes that size and place tell to be counterparts.
        names: of the classes.
        orientation: where (i, j, k) increase to; None: not the same in all images, so that a name that says a side
            forbids every axis.
        all_axes: the training is long enough for mirror images that no patient looks like; else the axis from left to
            right alone may be mirrored, or the first where nobody knows which that is.

    Example:
        >>> from voxflow.volumes import Fingerprint, Spread
        >>> size = Spread(least=(9, 9, 9), median=(9, 9, 9), most=(9, 9, 9))
        >>> data = Fingerprint(cases=9, labelled=9, size=size, spacing_mm=size, intensity=(), classes=())
        >>> choose_mirror_axes(data, ["liver", "left kidney"]).axes
        ('j', 'k')
    """
    reasons: dict[AxisName, str] = {}
    if not all_axes:
        sideways = _find_axes("LR", orientation)[:1]
        why = "bodies are not alike there, and the training is short"
        reasons = {axis: why for axis in AXES if axis not in sideways}
    for pair in fingerprint.opposed:
        first, second = pair.values
        reasons[pair.axis] = f"classes {first} and {second} are alike and always lie on the same sides"
    for name in names:
        words = {word.lower() for word in WORD.findall(name.replace("_", " "))}
        for letters, sides in SIDES.items():
            for axis in _find_axes(letters, orientation) if words & sides else ():
                reasons[axis] = f"the name {name!r} says a side"
    return MirrorChoice(axes=tuple(axis for axis in AXES if axis not in reasons), reasons=reasons)


def _find_axes(letters: str, orientation: str | None) -> tuple[AxisName, ...]:
    """The axes that run between two letters; all where nobody knows."""
    if orientation is None:
        return AXES
    return tuple(axis for axis, letter in zip(AXES, orientation, strict=True) if letter in letters)
