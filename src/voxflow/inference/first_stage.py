"""What the models of a first stage made of cases that they had not learnt from, on the grid of the second stage.

A network that is shown masks of a model that knows its cases learns to trust them, and new cases disappoint it. So each
case gets the mask of the fold that held it out, as in nnU-Net's cascade, and whatever would break that is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError, join_names
from voxflow.prediction import resample_labels
from voxflow.training import digest_file
from voxflow.volumes import Volume, read_geometry, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from voxflow.datalist import Case, Datalist
    from voxflow.inference.cases import InferenceCase

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"


def assign_folds(second: Datalist, folds: Mapping[int, Datalist], first: str) -> dict[str, int]:
    """Find, for each case that a second stage learns from or validates on, the fold of the first that held it out.

    Args:
        second: the second stage's cases.
        folds: the first stage's datalists by number.
        first: its workspace, for messages.

    Returns:
        Numbers of folds by case; without cases that the first stage does not have at all, since it failed on them.

    Raises:
        DataError: the first stage has none of the cases; a case is held out by no fold or by several; its fold has
            learnt from it or from its patient; or a fold has seen a case that the second stage is tested on.
    """
    known = {case.id for datalist in folds.values() for part in datalist.parts.values() for case in part}
    cases = [case for key in (TRAINING, VALIDATION) for case in _labelled(second, key) if case.id in known]
    if not cases:
        raise DataError(f"{first} has none of the cases; both need the same source", path=second.path)
    holders: dict[str, list[int]] = {case.id: [] for case in cases}
    for number, datalist in folds.items():
        for case in _labelled(datalist, VALIDATION):
            holders.setdefault(case.id, []).append(number)
    for case in cases:
        if len(holders[case.id]) != 1:
            held = " and ".join(map(str, holders[case.id])) or "none"
            message = f"case {case.id} is held out by {held} of the folds of {first}; expected exactly one"
            raise DataError(f"{message}: give both the same split.seed, testing and validation", path=second.path)
    _require_unseen(cases, {case.id: holders[case.id][0] for case in cases}, folds)
    _require_untested(_labelled(second, TESTING), folds, first, second.path)
    return {case.id: holders[case.id][0] for case in cases}


def _labelled(datalist: Datalist, key: str) -> list[Case]:
    return [case for case in datalist.parts.get(key, ()) if case.label is not None]


def _list_seen(cases: Iterable[Case]) -> tuple[set[str], set[str]]:
    """Ids and patients."""
    listed = list(cases)
    return {case.id for case in listed}, {case.patient for case in listed}


def _require_unseen(cases: Sequence[Case], fold_of: Mapping[str, int], folds: Mapping[int, Datalist]) -> None:
    seen = {number: _list_seen(_labelled(datalist, TRAINING)) for number, datalist in folds.items()}
    for case in cases:
        ids, patients = seen[fold_of[case.id]]
        if case.id in ids or case.patient in patients:
            known = "it" if case.id in ids else "its patient"
            message = f"leakage: case {case.id} is held out by fold {fold_of[case.id]}, which learns from {known}"
            raise DataError(message, path=folds[fold_of[case.id]].path)


def _require_untested(cases: Sequence[Case], folds: Mapping[int, Datalist], first: str, path: Path) -> None:
    for number, datalist in folds.items():
        ids, patients = _list_seen(case for key in (TRAINING, VALIDATION) for case in _labelled(datalist, key))
        leaking = [case.id for case in cases if case.id in ids or case.patient in patients]
        if leaking:
            message = f"leakage: fold {number} of {first} has seen {join_names(leaking, 3)}, which testing holds"
            raise DataError(f"{message}; give both the same split.seed and testing", path=path)


def bring_masks(
    cases: Sequence[tuple[Case, InferenceCase, InferenceCase, Path]], folder: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Bring the first stage's masks to the grids of the second stage's images, each voxel the nearest one's value.

    Args:
        cases: each as the second stage learns from it, as both stages' images were converted (the second's first), and
            the first stage's mask.
        folder: an existing folder, which gets CASE.nii.gz, label values on the grid of the case's first image.

    Returns:
        The digest of each mask by case; and the reason why there is none, likewise.
    """
    digests, failures = dict[str, str](), dict[str, str]()
    for case, converted, earlier, mask in cases:
        try:
            written = _bring_mask(case, converted, earlier, mask, folder)
        except DataError as error:
            failures[case.id] = str(error)
        else:
            digests[case.id] = digest_file(written)
    return digests, failures


def _bring_mask(case: Case, converted: InferenceCase, earlier: InferenceCase, mask: Path, folder: Path) -> Path:
    if not mask.is_file():
        raise DataError("the first stage made no mask of this case", path=mask)
    if len(converted.images) != len(earlier.images):
        counts = f"{len(earlier.images)} images in the first stage, {len(converted.images)} in the second"
        raise DataError(f"{counts}; both need the same ones", path=converted.images[0])
    for own, other in zip(converted.images, earlier.images, strict=True):
        if not _is_same_image(own, other):
            message = (
                f"another image than {other}, which the first stage has seen; give both the same source and convert"
            )
            raise DataError(message, path=own)
    volume = read_volume(mask)
    if not any(volume.geometry.is_close(read_geometry(image)) for image in converted.images):
        raise DataError("lies on another grid than the images of its case", path=mask)
    target = folder / f"{case.id}.nii.gz"
    labels = Volume(volume.array.astype(np.uint8 if volume.array.max(initial=0) < 256 else np.int16), volume.geometry)
    write_volume(target, resample_labels(labels, read_geometry(case.image[0])))
    return target


def _is_same_image(own: Path, other: Path) -> bool:
    if digest_file(own) == digest_file(other):
        return True
    first, second = read_volume(own), read_volume(other)
    return first.geometry.is_close(second.geometry) and np.array_equal(first.array, second.array)
