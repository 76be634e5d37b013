"""The cases of a viewer: which files each one has, and what of them a page shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.colours import pick_class_colour
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.viewing.encoding import choose_steps, limit_grid, number_values, pack, quantise, round_numbers
from voxflow.viewing.planes import is_oblique, plan_upright_grid
from voxflow.viewing.windows import HOUNSFIELD, find_ct_window, list_windows, name_unit
from voxflow.volumes import Volume, read_channels, read_label, read_radiograph, require_place, resample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LABEL, PREDICTION = "label", "prediction"
MOST_CHANNELS = 8
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class ViewerLayer:
    """A mask of a case.

    Attributes:
        name: who drew it: "label", "prediction", or a model's name.
        path: its file, on the grid of the case's first image.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class ViewerCase:
    """One case of a viewer.

    Attributes:
        id: what the page calls it: a pseudonym.
        images: one file a channel; a file may hold several. The others are shown on the first one's grid.
        layers: the masks; the first is the label where there is one.
        channels: names of the images; empty: numbers.
        modalities: DICOM's, of each channel, such as "CT"; empty where they are not known.
        units: of the intensities of each channel, as cases.csv has them.
        classes: label values by class; classes that are not named here are called by their values.
        ignore: the label's value of voxels that nobody labelled.
        labelled: the classes that were labelled; None: all.
        facts: what else the page says of the case, by name.
    """

    id: str
    images: tuple[Path, ...]
    layers: tuple[ViewerLayer, ...] = ()
    channels: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ignore: int | None = None
    labelled: tuple[str, ...] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def encode_case(case: ViewerCase, most_voxels: int) -> dict[str, Any]:
    """Read a case and turn it into what the page's script takes.

    Args:
        case: its files.
        most_voxels: of all channels together; beyond, the case is shown more coarsely, and says so.

    Raises:
        DataError: a file is missing, damaged, or a mask does not lie on its image.
    """
    channels, is_flat = _read_images(case.images)
    notes = []
    if len(channels) > MOST_CHANNELS:
        notes.append(f"The first {MOST_CHANNELS} of {len(channels)} images are shown.")
        channels = channels[:MOST_CHANNELS]
    grid = channels[0].geometry
    masks = [(layer.name, _read_mask(layer.path, grid, is_flat=is_flat)) for layer in case.layers]
    view = grid if is_flat else plan_upright_grid(grid)
    coarse = limit_grid(view, most_voxels // len(channels))
    if not is_flat and is_oblique(grid):
        notes.append("The image is oblique; it is shown along the patient's axes.")
    if coarse is not view:
        mm = " × ".join(f"{length:.2g}" for length in coarse.spacing)
        notes.append(f"Shown at {mm} {'pixels' if is_flat else 'mm'}, coarser than the image, to keep the page small.")
    label = masks[0][1] if masks else None
    encoded = [_encode_channel(case, n, image, (grid, coarse), label, notes=notes) for n, image in enumerate(channels)]
    return {
        "id": case.id,
        "flat": is_flat,
        "size": list(coarse.size),
        "spacing": round_numbers(coarse.spacing),
        "channels": encoded,
        "layers": [_encode_layer(name, mask, coarse) for name, mask in masks],
        "classes": measure_classes(case, masks, grid),
        "facts": dict(case.facts),
        "notes": notes,
    }


def _read_images(paths: Sequence[Path]) -> tuple[list[Volume], bool]:
    """The channels, and whether they are pictures: columns are i, rows are j, and lengths are pixels."""
    if all(path.name.lower().endswith(PICTURE_SUFFIXES) for path in paths):
        return [_make_flat(read_radiograph(path)) for path in paths], True
    volumes = [channel for path in paths for channel in read_channels(path)]
    if not volumes:
        raise DataError("a case without an image")
    return volumes, False


def _make_flat(pixels: NDArray[Any]) -> Volume:
    return Volume(pixels.T[:, :, None], Geometry.from_parts((*pixels.shape[::-1], 1), (1, 1, 1)))


def _read_mask(path: Path, grid: Geometry, *, is_flat: bool) -> Volume:
    if not is_flat:
        return read_label(path, grid)
    pixels = read_radiograph(path)
    if pixels.shape[::-1] != grid.size[:2]:
        raise DataError(f"the mask has {pixels.shape} pixels, its image {grid.size[1::-1]}", path=path)
    return Volume(pixels.T[:, :, None], grid)


def _encode_channel(
    case: ViewerCase,
    number: int,
    image: Volume,
    grids: tuple[Geometry, Geometry],
    label: Volume | None,
    *,
    notes: list[str],
) -> dict[str, Any]:
    native, grid = grids
    array, name = image.array, _pick(case.channels, number) or f"image {number + 1}"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        finite = array[np.isfinite(array)]
        if not finite.size:
            raise DataError("the image holds no finite value")
        array = np.where(np.isfinite(array), array, finite.min())
        notes.append(f"{name}: NaN and infinite values are shown as the lowest value.")
    if array.dtype.kind in "b":
        array = array.astype(np.uint8)
    unit = "" if grid.size[2] == 1 else name_unit(array, _pick(case.modalities, number), _pick(case.units, number))
    windows = list_windows(array, unit)
    steps = choose_steps(array, unit)
    first = 0
    is_labelled = label is not None and label.array.shape == array.shape and label.array.any()
    if unit == HOUNSFIELD and label is not None and is_labelled:
        first = find_ct_window(array[label.array > 0])
    if number and image.geometry.find_axes(native) is None:
        require_place(image.geometry, case.images[min(number, len(case.images) - 1)])
    on_grid = resample(Volume(array, image.geometry), grid, fill=float(array.min()), antialias=True)
    return {
        "name": name,
        "unit": unit,
        "steps": round_numbers(steps),
        "windows": [[window.name, *round_numbers((window.low, window.high)), window.is_inverted] for window in windows],
        "window": first,
        "data": pack(quantise(on_grid.array, steps)),
    }


def _encode_layer(name: str, mask: Volume, grid: Geometry) -> dict[str, Any]:
    numbers, values = number_values(resample(mask, grid, "nearest").array)
    return {"name": name, "values": values, "data": pack(numbers)}


def measure_classes(case: ViewerCase, masks: Sequence[tuple[str, Volume]], grid: Geometry) -> list[dict[str, Any]]:
    """Measure each class in each mask, at the masks' full resolution.

    Args:
        case: names its classes.
        masks: name and mask, all on one grid.
        grid: of the masks.

    Returns:
        Of each class that is named or found: name, colour, label values, volume in ml by mask, and where the first mask
        is a label, the Dice of each other mask with it (None: not defined, or not labelled).
    """
    voxel_ml = float(abs(np.linalg.det(grid.affine[:3, :3]))) / 1000
    arrays = [mask.array for _, mask in masks]
    if masks and case.ignore is not None:
        arrays = [np.where(arrays[0] == case.ignore, 0, array) for array in arrays]
    counts = [np.bincount(array.ravel()) for array in arrays]
    # How often each value of the first mask meets each of another: all overlaps from one pass.
    meetings = [_count_meetings(arrays[0], array) for array in arrays[1:]]
    present_values = sorted({int(value) for count in counts for value in np.flatnonzero(count)} - {0})
    named = {value for values in case.classes.values() for value in values}
    classes = dict(case.classes) | {f"label {value}": (value,) for value in present_values if value not in named}
    is_region = any(len(values) > 1 for values in case.classes.values())
    has_label = bool(masks) and masks[0][0] == LABEL
    rows = []
    for number, (name, values) in enumerate(classes.items(), start=1):
        sums = [sum(int(count[value]) for value in values if value < len(count)) for count in counts]
        overlaps = [sum(meeting.get((a, b), 0) for a in values for b in values) for meeting in meetings]
        is_judged = has_label and (case.labelled is None or name in case.labelled)
        dice = [
            round(2 * shared / (sums[0] + total), 4) if is_judged and sums[0] + total else None
            for shared, total in zip(overlaps, sums[1:], strict=True)
        ]
        colour, ml = pick_class_colour(number if is_region else values[0]), [round(n * voxel_ml, 3) for n in sums]
        rows.append({"name": name, "values": list(values), "colour": colour, "ml": ml, "dice": dice})
    return rows


def _count_meetings(first: NDArray[Any], second: NDArray[Any]) -> dict[tuple[int, int], int]:
    """How many voxels have each pair of values, none of them 0."""
    is_both = (first > 0) & (second > 0)
    width = int(second.max()) + 1
    pairs = first[is_both].astype(np.int64) * width + second[is_both]
    values, counts = np.unique(pairs, return_counts=True)
    return {divmod(int(pair), width): int(count) for pair, count in zip(values, counts, strict=True)}


def _pick(values: Sequence[str], number: int) -> str:
    return values[number] if number < len(values) else ""
