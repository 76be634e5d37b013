"""Makes one label map of a case's label files: of a map as it is, or of masks of classes that may overlap.

A voxel of several classes gets a value of its own, which stands for all of them: so a label is always one map, and a
class that overlaps others is a region, a set of its values. Cases are read apart, so each numbers what overlaps in it
by itself; :func:`unite_combinations` then gives each combination one value in all cases.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from voxflow.errors import DataError, join_names
from voxflow.images.label_values import cut_probabilities, describe_ignored
from voxflow.layouts import IGNORE
from voxflow.volumes import (
    Volume,
    align,
    describe_turn,
    read_channels,
    read_volume,
    renumber_labels,
    round_labels,
    write_volume,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.images.label_values import LabelValues
    from voxflow.images.table import ConversionOutcome
    from voxflow.layouts import LabelSource, Layout, LayoutCase

Overlap = Literal["last", "first", "regions"]
Combination = tuple[int, ...]
MAX_OFF_GRID = 0.01  # voxels, of a crop's corner from the image's grid


@dataclass(frozen=True)
class LayoutLabel:
    """The label of one case.

    Attributes:
        volume: values (i, j, k) on the grid of the case's channels.
        values: those that occur; 0 among them.
        combinations: the classes, by their values, that each value above the classes' stands for.
        remark: what the user should know.
    """

    volume: Volume
    values: tuple[int, ...]
    combinations: Mapping[int, Combination] = field(default_factory=dict)
    remark: str = ""


def read_layout_label(
    sources: Sequence[LabelSource],
    grid: Geometry,
    classes: Mapping[str, tuple[int, ...]],
    *,
    values: LabelValues,
    overlap: Overlap,
    labelled: Sequence[str] | None = None,
) -> LayoutLabel:
    """Read the label of one case; of several masks one at a time is in memory.

    Args:
        sources: a map, or masks by class.
        grid: of the case's channels.
        classes: values by class, for masks.
        values: that a map may hold.
        overlap: of masks: which class counts where several lie, or "regions" to keep all.
        labelled: the classes that were labelled; None: all.

    Raises:
        DataError: a file is unreadable, lies on another grid, or a map has a value of no class, or of one that is said
            not to be labelled.
    """
    absent = [] if labelled is None else sorted(classes.keys() - set(labelled))
    unknown: list[str] = []
    if sources[0].class_name:
        label = _read_masks(sources, grid, classes, values=values, overlap=overlap)
        unknown = sorted(classes.keys() - {source.class_name for source in sources} - set(absent))
    else:
        label = _read_map(sources[0], grid, values)
        known = {value for name, members in classes.items() if name not in absent for value in members}
        wrong = [name for name in absent if set(classes[name]) - known & set(label.values)]
        if wrong:
            raise DataError(f"the map holds {join_names(wrong)}, which is not among the labelled classes")
    remarks = [
        label.remark,
        f"not labelled: {join_names(absent)}" if absent else "",
        f"no mask of {join_names(unknown)}: taken as empty" if unknown else "",
    ]
    return replace(label, remark="; ".join(filter(None, remarks)))


def _read_masks(
    sources: Sequence[LabelSource],
    grid: Geometry,
    classes: Mapping[str, tuple[int, ...]],
    *,
    values: LabelValues,
    overlap: Overlap,
) -> LayoutLabel:
    """Make one map of the masks of classes and of those that say what nobody labelled."""
    remarks: list[str] = []
    ignore = values.ignore

    def read_masks() -> Iterator[tuple[int, NDArray[np.bool_]]]:
        of_classes = [source for source in sources if source.class_name != IGNORE]
        for source in sorted(of_classes, key=lambda source: classes[source.class_name]):
            mask, remark = _read_mask(source, grid, values.threshold)
            remarks.append(remark)
            yield classes[source.class_name][0], mask

    label = merge_masks(read_masks(), grid, max((members[0] for members in classes.values()), default=0), overlap)
    unlabelled = [_read_mask(source, grid, values.threshold)[0] for source in sources if source.class_name == IGNORE]
    if unlabelled and ignore is not None:
        if ignore in label.values:
            raise DataError(f"classes overlap in so many ways that one takes the value {ignore}, which means ignore")
        volume = paint_ignore(label.volume, np.logical_or.reduce(unlabelled), ignore)
        remarks.append(describe_ignored(volume.array, ignore))
        label = replace(label, volume=volume, values=tuple(np.unique(volume.array).tolist()))
    return replace(label, remark="; ".join(filter(None, dict.fromkeys([*remarks, label.remark]))))


def list_labelled(
    case: LayoutCase, classes: Mapping[str, tuple[int, ...]], *, absent: Literal["empty", "unlabelled"]
) -> tuple[str, ...] | None:
    """List the classes that were labelled in a case, in the order of the data set's; None: all were.

    Args:
        case: its files, and what the data set says.
        classes: of the data set.
        absent: what a class without a mask means.

    Raises:
        DataError: the data set names a class that it has not.
    """
    names = set(case.labelled or ())
    if unknown := sorted(names - classes.keys()):
        raise DataError(f"labelled names {join_names(unknown)}; the classes are {join_names(list(classes))}")
    if case.labelled is None and absent == "unlabelled" and case.labels and case.labels[0].class_name:
        names = {source.class_name for source in case.labels} & classes.keys()
    return tuple(name for name in classes if name in names) if names and names != classes.keys() else None


def paint_ignore(label: Volume, unlabelled: NDArray[np.bool_] | None, ignore: int | None) -> Volume:
    """Give voxels that nobody labelled their value, whatever class they have.

    Args:
        label: a map of classes.
        unlabelled: (i, j, k); None: every voxel is labelled.
        ignore: the value.
    """
    if unlabelled is None or ignore is None or not unlabelled.any():
        return label
    return Volume(round_labels(np.where(unlabelled, np.int32(ignore), label.array)), label.geometry)


def masks_overlap(layout: Layout, most_cases: int = 5) -> bool:
    """Whether masks of different classes share voxels in one of the first labelled cases.

    Args:
        layout: whose cases may have masks; one that can't be read tells nothing.
        most_cases: that are read.
    """
    labelled = [case for case in layout.cases if case.labels and case.labels[0].class_name]
    for case in labelled[:most_cases]:
        covered: NDArray[np.bool_] | None = None
        for label in (source for source in case.labels if source.class_name != IGNORE):
            try:
                array = _read_layer(label).array
            except DataError:  # which the conversion of its case will tell
                continue
            # From 0.5 on, since it may be a probability map.
            mask = array >= 0.5 if label.value is None else array == label.value
            if covered is not None and covered.shape == mask.shape and bool((covered & mask).any()):
                return True
            covered = mask if covered is None or covered.shape != mask.shape else covered | mask
    return False


def _read_map(source: LabelSource, grid: Geometry, values: LabelValues) -> LayoutLabel:
    volume, remark = _read_on_grid(source, grid)
    array, cut = cut_probabilities(volume.array, values.threshold)
    if source.numbers:
        array = renumber_labels(round_labels(array), source.numbers)
    array, present_values, ignored = values.convert(array)
    remarks = "; ".join(text for text in (remark, cut, ignored) if text)
    return LayoutLabel(Volume(array, grid), present_values, remark=remarks)


def _read_mask(source: LabelSource, grid: Geometry, threshold: float | None) -> tuple[NDArray[np.bool_], str]:
    volume, turn = _read_on_grid(source, grid)
    array, cut = cut_probabilities(volume.array, threshold)
    remark = "; ".join(filter(None, (turn, f"{source.class_name}: {cut}" if cut else "")))
    array = round_labels(array)
    if source.value is None and len(values := np.unique(array)) > 2:
        raise DataError(f"the mask of {source.class_name} has {len(values)} values; expected 0 and one other")
    return array != 0 if source.value is None else array == source.value, remark


def _read_on_grid(source: LabelSource, grid: Geometry) -> tuple[Volume, str]:
    """Read a label, in the order of its image's voxels; 3D Slicer's crop of the image is filled up with 0."""
    volume = _read_layer(source)
    embedded = _embed(volume, grid) if source.value is not None and volume.geometry.find_axes(grid) is None else None
    return embedded or align(volume, grid), "" if embedded else describe_turn(volume.geometry, grid)


def _read_layer(source: LabelSource) -> Volume:
    layers = read_channels(source.path)
    if (source.layer is None and len(layers) > 1) or (source.layer or 0) >= len(layers):
        expected = "one label" if source.layer is None else f"a layer {source.layer}, from 0"
        raise DataError(f"expected {expected}; the file holds {len(layers)}", path=source.path)
    return layers[source.layer or 0]


def _embed(volume: Volume, grid: Geometry) -> Volume | None:
    """Put a crop of a grid, as 3D Slicer saves segmentations, in its place; None where it is no crop."""
    corner = np.linalg.solve(grid.affine[:3, :3], np.subtract(volume.geometry.origin, grid.origin))
    start = np.rint(corner).astype(int)
    stop = start + volume.array.shape
    is_crop = (
        np.allclose(volume.geometry.affine[:3, :3], grid.affine[:3, :3], atol=1e-3 * min(grid.spacing))
        and bool((np.abs(corner - start) <= MAX_OFF_GRID).all())
        and bool((start >= 0).all() and (stop <= grid.size).all())
    )
    if not is_crop:
        return None
    array = np.zeros(grid.size, volume.array.dtype)
    array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = volume.array
    return Volume(array, grid)


def merge_masks(
    masks: Iterable[tuple[int, NDArray[np.bool_]]], grid: Geometry, highest: int, overlap: Overlap = "regions"
) -> LayoutLabel:
    """Make one map of masks.

    Args:
        masks: the value of a class and its voxels (i, j, k), in the order in which they are painted; a class may have
            several masks, such as the lesions of an organ.
        grid: of the masks.
        highest: the highest value of a class in all cases.
        overlap: which class counts where several lie; "regions": each combination of classes gets a value after
            ``highest``, for this case alone.
    """
    array: NDArray[np.int32] = np.zeros(grid.size, np.int32)
    shared = np.zeros(grid.size, np.bool_)
    members: dict[int, Combination] = {0: ()}
    for value, mask in masks:
        members.setdefault(value, (value,))
        covered = mask & (array != 0) & (array != value)
        shared |= covered
        if overlap == "regions":
            for before in np.unique(array[covered]).tolist():
                combination = tuple(sorted({*members[before], value}))
                after = next((n for n, known in members.items() if known == combination), max(highest, *members) + 1)
                members[after] = combination
                array[covered & (array == before)] = after
        array[mask & ~covered if overlap != "last" else mask] = value
    values = tuple(int(value) for value in np.unique(array))
    combinations = {value: members[value] for value in values if value > highest}
    count = 0 if overlap == "regions" else int(shared.sum())
    remark = f"{count} voxels lie in several classes: the {overlap} counts" if count else ""
    return LayoutLabel(Volume(round_labels(array), grid), values, combinations, remark)


def unite_combinations(combinations: Iterable[Mapping[int, Combination]], highest: int) -> dict[Combination, int]:
    """Give each combination of classes one value in all cases, after those of the classes.

    Args:
        combinations: of each case.
        highest: the highest value of a class.

    Raises:
        DataError: there are more than a label of 16 bits can hold.

    Example:
        >>> unite_combinations([{4: (1, 2)}, {4: (1, 2, 3), 5: (1, 3)}], highest=3)
        {(1, 2): 4, (1, 3): 5, (1, 2, 3): 6}
    """
    distinct = sorted({combination for of_case in combinations for combination in of_case.values()}, key=_sort_key)
    if highest + len(distinct) > np.iinfo(np.uint16).max:
        raise DataError(f"classes overlap in {len(distinct)} ways; a label map has room for 65535 values")
    return {combination: highest + number for number, combination in enumerate(distinct, start=1)}


def _sort_key(combination: Combination) -> tuple[int, Combination]:
    return len(combination), combination


def unite_labels(folder: Path, outcomes: Sequence[ConversionOutcome], highest: int) -> dict[Combination, int]:
    """Give each combination of classes one value in the labels of all cases; see :func:`unite_combinations`.

    Args:
        folder: that the labels were written to; those whose values change are written again.
        outcomes: of the cases.
        highest: the highest value of a class.

    Returns:
        The value of each combination; empty where no classes overlap.
    """
    united = unite_combinations([outcome.combinations for outcome in outcomes], highest)
    for outcome in outcomes:
        if any(united[combination] != value for value, combination in outcome.combinations.items()):
            path = folder / outcome.cases[0].label
            label = read_volume(path)
            numbers = {value: united[combination] for value, combination in outcome.combinations.items()}
            write_volume(path, Volume(renumber_labels(label.array, numbers), label.geometry))
    return united


def name_combinations(united: Mapping[Combination, int], names: Mapping[int, str]) -> dict[int, str]:
    """Name the value of each combination after its classes.

    Example:
        >>> name_combinations({(1, 2): 3}, {1: "liver", 2: "tumour"})
        {3: 'liver + tumour'}
    """
    return {value: " + ".join(names[number] for number in combination) for combination, value in united.items()}


def list_regions(classes: Mapping[str, Sequence[int]], united: Mapping[Combination, int]) -> dict[str, list[int]]:
    """List the values of each class, where a voxel may belong to several.

    Args:
        classes: the values of each class, without combinations; of masks, one.
        united: the value of each combination.

    Example:
        >>> list_regions({"liver": (1,), "tumour": (2,)}, {(1, 2): 3})
        {'liver': [1, 3], 'tumour': [2, 3]}
    """
    return {
        name: sorted({*values, *(value for combination, value in united.items() if values[0] in combination)})
        for name, values in classes.items()
    }
