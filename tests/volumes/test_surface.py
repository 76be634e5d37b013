"""Surfaces of masks: closed, facing outwards, of the voxels' volume, in the patient's place; files that read back."""

from __future__ import annotations

import json
import struct
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import Surface, extract_surface, write_glb, write_stl

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
GRIDS = {
    "straight": Geometry.from_parts((9, 8, 7), (1, 1, 1)),
    "oblique": Geometry.from_parts((9, 8, 7), (0.7, 0.9, 5), (120, -340, 900), TURN),
    "mirrored": Geometry.from_parts((9, 8, 7), (0.7, 0.9, 5), (120, -340, 900), -TURN),
}


def make_masks() -> dict[str, NDArray[np.bool_]]:
    masks = {name: np.zeros((9, 8, 7), np.bool_) for name in ("voxel", "slice", "hollow", "two by an edge")}
    masks["voxel"][8, 7, 6] = True
    masks["slice"][2:7, 1:7, 3] = True
    masks["hollow"][1:8, 1:7, 1:6] = True
    masks["hollow"][4, 4, 3] = False
    masks["two by an edge"][[3, 4], [3, 4], 2] = True
    rng = np.random.default_rng(0)
    return masks | {"all": np.ones((9, 8, 7), np.bool_), "noise": rng.random((9, 8, 7)) < 0.45}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", make_masks())
def test_each_surface_is_closed_faces_outwards_and_has_the_volume_of_its_voxels(name: str, grid: str) -> None:
    mask, geometry = make_masks()[name], GRIDS[grid]
    surface = extract_surface(mask, geometry)
    starts, ends = surface.triangles.ravel(), np.roll(surface.triangles, -1, axis=1).ravel()
    edges = Counter(zip(starts.tolist(), ends.tolist(), strict=True))
    assert set(edges.values()) == {1}  # each edge once one way, and once the other way
    assert all((end, start) in edges for start, end in edges)
    expected = mask.sum() * np.prod(geometry.spacing)
    assert surface.volume_mm3 == pytest.approx(expected, rel=1e-3)  # positive: outwards


def test_a_surface_lies_where_its_voxels_lie() -> None:
    mask, geometry = make_masks()["slice"], GRIDS["oblique"]
    surface = extract_surface(mask, geometry)
    index = geometry.to_index(surface.points)
    assert np.all(index > np.array([2, 1, 3]) - 1)
    assert np.all(index < np.array([6, 6, 3]) + 1)
    np.testing.assert_allclose(index.mean(axis=0), [4, 3.5, 3], atol=1e-6)


def test_a_ball_is_smooth() -> None:
    geometry = Geometry.from_parts((40, 40, 40), (1, 1, 1))
    centre = np.array([19.5, 19.5, 19.5])
    distance = np.linalg.norm(np.moveaxis(np.indices(geometry.size), 0, -1) - centre, axis=-1)
    surface = extract_surface(distance < 15, geometry)
    radii = np.linalg.norm(surface.points - centre, axis=1)
    assert radii.std() < 0.2  # of the voxels' corners: 0.29
    a, b, c = (surface.points[surface.triangles[:, n]] for n in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert area == pytest.approx(4 * np.pi * 15**2, rel=0.06)  # that of the voxels' faces is half as much again


def test_an_empty_mask_has_no_surface(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no surface"):
        extract_surface(np.zeros((3, 3, 3), np.bool_), Geometry.from_parts((3, 3, 3), (1, 1, 1)))
    with pytest.raises(DataError, match="no surface"):
        write_glb(tmp_path / "a.glb", {})


def make_surface() -> Surface:
    return extract_surface(make_masks()["hollow"], GRIDS["oblique"])


def test_stl_reads_back_in_lps_and_mm(tmp_path: Path) -> None:
    surface = make_surface()
    write_stl(tmp_path / "a.stl", surface)
    content = (tmp_path / "a.stl").read_bytes()
    assert b"SPACE=LPS" in content[:80]
    assert not content.startswith(b"solid")
    (count,) = struct.unpack("<I", content[80:84])
    assert len(content) == 84 + 50 * count
    numbers = np.array([struct.unpack("<12f", content[84 + 50 * n : 132 + 50 * n]) for n in range(count)])
    np.testing.assert_allclose(numbers[:, 3:].reshape(-1, 3, 3), surface.points[surface.triangles], rtol=1e-6)
    outwards = np.einsum(
        "ij,ij->i", numbers[:, :3], np.cross(*np.diff(numbers[:, 3:].reshape(-1, 3, 3), axis=1).swapaxes(0, 1))
    )
    assert (outwards > 0).all()


def test_glb_holds_named_coloured_meshes_and_stands_upright(tmp_path: Path) -> None:
    surface = make_surface()
    write_glb(tmp_path / "a.glb", {"liver": (surface, "#E69F00"), "milz": (surface, "#56B4E9")})
    content = (tmp_path / "a.glb").read_bytes()
    magic, version, length, text_length, kind = struct.unpack("<4sIII4s", content[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(content), b"JSON")
    document = json.loads(content[20 : 20 + text_length])
    binary = content[20 + text_length + 8 :]
    assert [mesh["name"] for mesh in document["meshes"]] == ["liver", "milz"]
    assert document["buffers"][0]["byteLength"] == len(binary)
    primitive = document["meshes"][1]["primitives"][0]
    views = [document["bufferViews"][document["accessors"][primitive[key]]["bufferView"]] for key in ("indices",)]
    views.append(document["bufferViews"][document["accessors"][primitive["attributes"]["POSITION"]]["bufferView"]])
    indices, points = (
        np.frombuffer(binary[view["byteOffset"] :][: view["byteLength"]], kind)
        for view, kind in zip(views, ("<u4", "<f4"), strict=True)
    )
    np.testing.assert_array_equal(indices.reshape(-1, 3), surface.triangles)
    np.testing.assert_allclose(points.reshape(-1, 3), surface.points, rtol=1e-6)
    matrix = np.array(document["nodes"][0]["matrix"]).reshape(4, 4).T  # column by column
    upright = matrix @ np.array([[1000, 0, 0, 1], [0, -1000, 0, 1], [0, 0, 1000, 1]]).T
    np.testing.assert_allclose(upright[:3], [[1, 0, 0], [0, 0, 1], [0, 1, 0]])  # left: x; front: z; up: y
