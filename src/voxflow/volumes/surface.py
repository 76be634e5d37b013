"""The surface of a mask as a closed triangle mesh in the patient, and its files: binary STL and GLB (glTF 2.0).

Plan: every face between a voxel of the mask and one outside of it becomes two triangles. Where voxels touch by an edge
or a corner alone, the corner they share is split, so that each edge belongs to exactly two triangles. The corners are
then smoothed (Taubin 1995), none by more than :data:`MOST_SHIFT` of a voxel, and each part of the surface is moved
along its normals until it encloses the volume of its voxels again.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.colours import parse_rgb
from voxflow.errors import DataError
from voxflow.files import atomic_path
from voxflow.volumes.boxes import LabelBoxes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry

MOST_SHIFT = 0.45  # voxels; beyond, a sheet of one voxel could pass through itself
SMOOTHING_STEPS = 10
SHRINK, GROW = 0.5, -0.53
VOLUME_STEPS, VOLUME_TOLERANCE = 8, 1e-5
# glTF counts in metres and has Y up, Z to the viewer: LPS in mm is turned and scaled by this node, column by column.
GLTF_FROM_LPS = (0.001, 0, 0, 0, 0, 0, -0.001, 0, 0, 0.001, 0, 0, 0, 0, 0, 1)
STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


@dataclass(frozen=True, eq=False)
class Surface:
    """A closed triangle mesh.

    Attributes:
        points: (points, 3), mm, LPS.
        triangles: (triangles, 3), numbers of points; anticlockwise as seen from outside.
    """

    points: NDArray[np.float64]
    triangles: NDArray[np.int64]

    @property
    def volume_mm3(self) -> float:
        """The volume that it encloses; cavities count as outside."""
        return float(_measure_volumes(self.points - self.points.mean(axis=0), self.triangles).sum())


def extract_surface(mask: NDArray[np.bool_], geometry: Geometry) -> Surface:
    """Make the surface of a mask. It encloses the volume of the voxels, to a thousandth, in each of its parts.

    Args:
        mask: (i, j, k).
        geometry: its grid.

    Raises:
        DataError: the mask is empty.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> mask = np.zeros((5, 4, 3), bool); mask[2, 2, 1] = True
        >>> round(extract_surface(mask, Geometry.from_parts((5, 4, 3), (0.5, 1, 4))).volume_mm3, 3)
        2.0
    """
    if not mask.any():
        raise DataError("an empty mask has no surface")
    inside, box = LabelBoxes(mask.astype(np.uint8)).cut([1])
    corners, triangles = _mesh_faces(np.pad(inside, 1))
    if np.linalg.det(geometry.affine[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    parts = _number_parts(triangles, len(corners))
    # Measured near the origin: far from it, the differences of large numbers would lose digits.
    matrix = geometry.affine[:3, :3]
    targets = _sum_by_part(_measure_volumes(corners @ matrix.T, triangles), parts, triangles)
    points = _smooth(corners, triangles) @ matrix.T
    points = _restore_volume(points, triangles, parts, targets)
    first = np.array([part.start - 1 for part in box], np.float64)
    return Surface(points + geometry.to_physical(first), triangles)


def write_stl(path: Path, surface: Surface) -> None:
    """Write a surface as binary STL, mm, LPS; the header says so in the words that 3D Slicer reads.

    Args:
        path: the file to write, whole or not at all.
        surface: what is written.
    """
    corners = surface.points[surface.triangles].astype(np.float32)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    records = np.zeros(len(corners), STL_TRIANGLE)
    records["corners"] = corners
    records["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(b"Voxflow; unit=mm; SPACE=LPS".ljust(80))
        stream.write(struct.pack("<I", len(records)))
        stream.write(records.tobytes())


def write_glb(path: Path, surfaces: Mapping[str, tuple[Surface, str]]) -> None:
    """Write surfaces as one GLB file: a mesh a class, with its name and colour.

    Positions are millimetres in LPS. The root node turns them upright and into metres, as glTF has it.

    Args:
        path: the file to write, whole or not at all.
        surfaces: surface and colour (``#RRGGBB``) by name.

    Raises:
        DataError: there is no surface; glTF has no empty scene of meshes.
    """
    if not surfaces:
        raise DataError("no class has a voxel, so there is no surface", path=path)
    parts: list[bytes] = []
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "Voxflow", "extras": {"space": "LPS", "unit": "mm"}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "LPS mm", "matrix": GLTF_FROM_LPS, "children": list(range(1, len(surfaces) + 1))}],
        "meshes": [],
        "materials": [],
        "accessors": [],
        "bufferViews": [],
    }
    for number, (name, (surface, colour)) in enumerate(surfaces.items()):
        _add_mesh(document, parts, surface)
        document["nodes"].append({"name": name, "mesh": number})
        primitive = {"attributes": {"POSITION": 2 * number}, "indices": 2 * number + 1, "material": number}
        document["meshes"].append({"name": name, "primitives": [primitive]})
        document["materials"].append(_make_material(name, colour))
    document["buffers"] = [{"byteLength": sum(map(len, parts))}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(parts)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary)))
        stream.write(struct.pack("<I4s", len(text), b"JSON") + text)
        stream.write(struct.pack("<I4s", len(binary), b"BIN\0") + binary)


def _add_mesh(document: dict[str, Any], parts: list[bytes], surface: Surface) -> None:
    """Add positions and indices to the buffer; both are of four bytes a number, so all stays aligned."""
    points, indices = surface.points.astype("<f4"), surface.triangles.astype("<u4").ravel()
    limits = {"min": points.min(axis=0).tolist(), "max": points.max(axis=0).tolist()}
    arrays: tuple[tuple[NDArray[Any], int, int, str, dict[str, Any]], ...] = (
        (points, 34962, 5126, "VEC3", limits),
        (indices, 34963, 5125, "SCALAR", {}),
    )
    for array, target, component, kind, extra in arrays:
        view = {"buffer": 0, "byteOffset": sum(map(len, parts)), "byteLength": array.nbytes, "target": target}
        accessor = {"bufferView": len(document["bufferViews"]), "componentType": component, "type": kind}
        document["bufferViews"].append(view)
        document["accessors"].append(accessor | {"count": len(array)} | extra)
        parts.append(array.tobytes())


def _make_material(name: str, colour: str) -> dict[str, Any]:
    linear = [round((part / 255) ** 2.2, 4) for part in parse_rgb(colour)]
    return {
        "name": name,
        "pbrMetallicRoughness": {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8},
    }


def _mesh_faces(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Corners (corners, 3), in voxels, and triangles of the faces of a mask whose border is empty."""
    table, counts = _split_corners()
    code = np.zeros(np.array(mask.shape) - 1, np.uint8)  # of the corner after voxel (i, j, k)
    for bit, octant in enumerate(product((0, 1), repeat=3)):
        code |= (
            mask[tuple(slice(o, n - 1 + o) for o, n in zip(octant, mask.shape, strict=True))].astype(np.uint8) << bit
        )
    active = np.flatnonzero((code != 0) & (code != 255))
    codes = code.ravel()[active]
    copies = counts[codes]
    first = np.cumsum(copies) - copies
    places = np.repeat(np.stack(np.unravel_index(active, code.shape), axis=-1), copies, axis=0)
    lattice = _Corners(code.shape, active, first, table[codes])
    quads, owners = zip(*(_list_quads(mask, axis, lattice) for axis in range(3)), strict=True)
    faces, owner = np.concatenate(quads), np.concatenate(owners)
    triangles = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])
    return _part_shared_edges(places.astype(np.float64) + 0.5, triangles, np.concatenate([owner, owner]))


def _part_shared_edges(
    corners: NDArray[np.float64], triangles: NDArray[np.int64], owners: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give two voxels that touch by an edge, and are joined at both of its ends, a middle of that edge each.

    Args:
        corners: (corners, 3).
        triangles: (triangles, 3).
        owners: the voxel of the mask that each triangle belongs to.
    """
    starts, ends = triangles, np.roll(triangles, -1, axis=1)
    keys = np.minimum(starts, ends) * len(corners) + np.maximum(starts, ends)
    _, places, uses = np.unique(keys, return_inverse=True, return_counts=True)
    is_shared = (uses > 2)[places].reshape(keys.shape)
    affected = np.flatnonzero(is_shared.any(axis=1))
    middles: dict[tuple[int, int], int] = {}
    points, pieces = [corners], [np.delete(triangles, affected, axis=0)]
    for n in affected:
        outline = []
        for corner in range(3):
            outline.append(int(triangles[n, corner]))
            if is_shared[n, corner]:
                key = (int(keys[n, corner]), int(owners[n]))
                if key not in middles:
                    middles[key] = len(corners) + len(middles)
                    points.append(corners[[starts[n, corner], ends[n, corner]]].mean(axis=0, keepdims=True))
                outline.append(middles[key])
        first = next(place for place, corner in enumerate(outline) if corner >= len(corners))
        fan = outline[first:] + outline[:first]
        pieces.append(np.array([(fan[0], fan[m], fan[m + 1]) for m in range(1, len(fan) - 1)]))
    return np.concatenate(points), np.concatenate(pieces)


@dataclass(frozen=True, eq=False)
class _Corners:
    """The corners of a surface.

    Attributes:
        shape: of the grid of all corners.
        places: (places,), where on it a face ends, ascending.
        first: (places,), the number of the first corner there.
        copies: (places, 12), which corner there each of :data:`_FACES` takes, from 0.
    """

    shape: tuple[int, ...]
    places: NDArray[np.intp]
    first: NDArray[np.intp]
    copies: NDArray[np.int8]

    def number(self, places: NDArray[np.intp], face: tuple[int, int, int]) -> NDArray[np.intp]:
        """Number the corners (faces,) at places (faces, 3) that a face takes."""
        row = np.searchsorted(self.places, np.ravel_multi_index(tuple(places.T), self.shape))
        return np.asarray(self.first[row] + self.copies[row, _FACES.index(face)])


def _list_quads(mask: NDArray[np.bool_], axis: int, lattice: _Corners) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The faces across one axis: (faces, 4) corners, anticlockwise from outside, and (faces,) voxels they belong to."""
    lower, upper = (np.moveaxis(mask, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
    b, c = (axis + 1) % 3, (axis + 2) % 3
    voxel = np.stack(np.nonzero(np.moveaxis(lower ^ upper, 0, axis)), axis=-1)
    outwards = mask[tuple(voxel.T)]
    corners = []
    for along_b, along_c in ((0, 0), (1, 0), (1, 1), (0, 1)):
        place = voxel.copy()  # corner n lies between voxels n and n + 1
        place[:, b] += along_b - 1
        place[:, c] += along_c - 1
        corners.append(lattice.number(place, (axis, 1 - along_b, 1 - along_c)))
    quads = np.stack(corners, axis=-1)
    inner = voxel.copy()
    inner[:, axis] += ~outwards
    return np.where(outwards[:, None], quads, quads[:, ::-1]), np.ravel_multi_index(tuple(inner.T), mask.shape)


# The twelve faces around a corner: the axis across which a face lies, and on which side of the corner its voxels are
# along the next two axes.
_FACES = tuple((axis, b, c) for axis in range(3) for b in (0, 1) for c in (0, 1))


@cache
def _split_corners() -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Of each of the 256 cases of eight voxels around a corner: which copy of it each face takes, and how many."""
    table = np.full((256, len(_FACES)), -1, np.int8)
    counts = np.zeros(256, np.int64)
    for code in range(256):
        inside = {octant: bool(code >> bit & 1) for bit, octant in enumerate(product((0, 1), repeat=3))}
        ends = [_find_voxels(*face) for face in _FACES]
        faces = [n for n, (low, high) in enumerate(ends) if inside[low] != inside[high]]
        owner = {n: next(voxel for voxel in ends[n] if inside[voxel]) for n in faces}
        group = {n: n for n in faces}
        for axis, side in product(range(3), (0, 1)):
            # The faces that meet at an edge: two, or four where two voxels touch by the edge alone; these pair up
            # by the voxel that they belong to.
            around = [n for n in faces if _FACES[n][0] != axis and all(end[axis] == side for end in ends[n])]
            for n, m in ((n, m) for n in around for m in around if n < m):
                if len(around) == 2 or owner[n] == owner[m]:
                    old, new = group[m], group[n]
                    group = {face: new if label == old else label for face, label in group.items()}
        labels = sorted(set(group.values()))
        counts[code] = len(labels)
        for n in faces:
            table[code, n] = labels.index(group[n])
    return table, counts


def _find_voxels(axis: int, b: int, c: int) -> list[tuple[int, int, int]]:
    """The two octants that a face parts."""
    octants = []
    for side in (0, 1):
        octant = [0, 0, 0]
        octant[axis], octant[(axis + 1) % 3], octant[(axis + 2) % 3] = side, b, c
        octants.append((octant[0], octant[1], octant[2]))
    return octants


def _smooth(corners: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    from scipy.sparse import coo_array

    # Edges alone: with the diagonals of the squares, a face would lean to one side.
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    lengths = np.abs(corners[pairs[:, 0]] - corners[pairs[:, 1]]).sum(axis=1)
    pairs = np.unique(np.sort(pairs[lengths < 1.5], axis=1), axis=0)
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(corners), len(corners))).tocsr()
    degrees = np.asarray(links.sum(axis=1)).reshape(-1, 1)
    points = corners
    for factor in (SHRINK, GROW) * SMOOTHING_STEPS:
        points = points + factor * (links @ points / degrees - points)
    return corners + np.clip(points - corners, -MOST_SHIFT, MOST_SHIFT)


def _restore_volume(
    points: NDArray[np.float64],
    triangles: NDArray[np.int64],
    parts: NDArray[np.int32],
    targets: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Move each part of a surface along its normals until it encloses its volume; Newton's method, dV = A dx."""
    for _ in range(VOLUME_STEPS):
        corners = points[triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        sums = np.zeros_like(points)
        for axis in range(3):
            for column in range(3):
                sums[:, axis] += np.bincount(triangles[:, column], normals[:, axis], len(points))
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        directions = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        # How much the volume grows where all points move by 1 mm along their directions.
        growth = np.einsum("ij,ij->i", normals, directions[triangles].sum(axis=1)) / 6
        missing = targets - _sum_by_part(_measure_volumes(points, triangles), parts, triangles)
        if np.all(np.abs(missing) <= VOLUME_TOLERANCE * np.abs(targets)):
            break
        shifts = missing / np.maximum(_sum_by_part(growth, parts, triangles), 1e-12)
        points = points + directions * shifts[parts][:, None]
    return points


def _number_parts(triangles: NDArray[np.int64], count: int) -> NDArray[np.int32]:
    """The number of the connected part that each point belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    links = coo_array((np.ones(len(pairs), np.int8), pairs.T), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.int32)


def _sum_by_part(
    values: NDArray[np.float64], parts: NDArray[np.int32], triangles: NDArray[np.int64]
) -> NDArray[np.float64]:
    return np.asarray(np.bincount(parts[triangles[:, 0]], weights=values), np.float64)


def _measure_volumes(points: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    """The signed volume of the tetrahedron between each triangle and the origin."""
    a, b, c = (points[triangles[:, n]] for n in range(3))
    return np.asarray(np.einsum("ij,ij->i", a, np.cross(b, c)) / 6)
