"""Where a field's voxels lie: a sample notes the affine of each image beside it, and crops move it along.

Augmentations that turn, flip or zoom the content leave it as it is: they change the patient, not the grid.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.geometry import Geometry, NiftiForms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from voxflow.components.transforms.base import Sample

SOURCE = "_source"  # the grid of the image's file, in an evaluation that returns masks to it
SPACING = "spacing"  # (i, j, k) in mm of the image that was loaded first, or as it was resampled since
NATIVE = "native"  # the grid of the image's file, in plain values, which stays whatever becomes of the image


def affine_key(name: str) -> str:
    """Return the key under which a field's affine stands in a sample.

    The affine is 4×4 float64: voxel index (i, j, k, 1) → mm in the patient, LPS as DICOM has it.

    Example:
        >>> affine_key("image")
        'image_affine'
    """
    return f"{name}_affine"


def read_geometry(sample: Sample, name: str) -> Geometry:
    """Return the grid of a field (channel, i, j, k).

    Without an affine beside the field it begins at 0 with the sample's spacing, or with 1 mm. Where it is the image
    file's own grid, it says how that file states it.
    """
    shape = sample[name].shape[-3:]
    affine = sample.get(affine_key(name))
    if affine is not None:
        native = read_native(sample)
        is_native = native is not None and native.size == shape and np.array_equal(native.affine, affine)
        return Geometry(shape, affine, native.forms if native is not None and is_native else None)
    return Geometry.from_parts(shape, sample.get(SPACING, (1.0, 1.0, 1.0)))


def note_native(geometry: Geometry) -> dict[str, Any]:
    """Return the sample's entry that keeps the grid of the image's file."""
    forms = geometry.forms and asdict(geometry.forms)
    return {NATIVE: {"size": geometry.size, "affine": geometry.affine.tolist(), "forms": forms}}


def read_native(sample: Sample) -> Geometry | None:
    """Return the grid of the image's file; None where no volume was loaded."""
    native = sample.get(NATIVE)
    if native is None:
        return None
    stated: dict[str, Any] = native["forms"] or {}
    # A case that was kept as JSON comes back with lists.
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()}
    return Geometry(tuple(native["size"]), np.array(native["affine"]), NiftiForms(**fields) if fields else None)


def affine_entries(names: Iterable[str], geometry: Geometry) -> dict[str, Any]:
    """Return the sample's entries that say where fields lie.

    Args:
        names: the fields.
        geometry: the grid that all of them lie on.
    """
    return {affine_key(name): np.array(geometry.affine) for name in names}


def shift_affines(sample: Sample, names: Iterable[str], start: NDArray[Any]) -> dict[str, Any]:
    """Return the affines of fields after their voxel ``start`` has become the first.

    Args:
        sample: as it was before; a field without an affine gets none.
        names: the fields.
        start: voxel index (i, j, k); negative where padding came in.
    """
    return move_affines(sample, names, np.eye(3), np.asarray(start, float))


def move_affines(
    sample: Sample, names: Iterable[str], matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> dict[str, Any]:
    """Return the affines of fields whose voxels have moved.

    Args:
        sample: as it was before.
        names: the fields.
        matrix: 3×3; the new index p reads the old one at ``matrix @ p + offset``.
        offset: (i, j, k), voxels; of two axes for radiographs, which have no affine.
    """
    # Radiographs have no affine.
    if len(offset) != 3:
        return {}
    change = np.eye(4)
    change[:3, :3], change[:3, 3] = matrix, offset
    keys = [affine_key(name) for name in names if affine_key(name) in sample]
    return {key: sample[key] @ change for key in keys}


def rescale_affines(sample: Sample, names: Iterable[str], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the affines of fields that are resized, outer face to outer face.

    Args:
        sample: as it was before.
        names: the fields.
        shape: the new one (i, j, k).
    """
    affines: dict[str, Any] = {}
    for name in names:
        old = np.array(sample[name].shape[1:], float)
        # Faces keep their place, not voxel centres: the first centre moves by half the change of a voxel's size.
        ratio = old / np.array(shape)
        affines |= move_affines(sample, [name], np.diag(ratio), ratio / 2 - 0.5)
    return affines


def return_to_source(sample: Sample, name: str, *, is_nearest: bool) -> Sample:
    """Resample a field onto the grid of the image's file, which the sample knows under ``SOURCE``.

    Args:
        sample: holds the field (channel, i, j, k).
        name: the field.
        is_nearest: take the nearest voxel; else blend. Voxels outside the field's grid become 0.

    Returns:
        The entries to replace: the field and its affine; {} where it lies there already or no file's grid is known.
    """
    from voxflow.volumes import Volume, resample

    source, own = sample.get(SOURCE), read_geometry(sample, name)
    if not isinstance(source, Geometry) or (own.size == source.size and np.allclose(own.affine, source.affine)):
        return {}
    interpolation: Any = "nearest" if is_nearest else "linear"
    channels = [resample(Volume(channel, own), source, interpolation).array for channel in sample[name]]
    return {name: np.stack(channels), **affine_entries([name], source)}
