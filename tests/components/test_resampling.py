"""Grids: what is loaded, cropped and resampled lies where SimpleITK says, flipped and anisotropic images too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from voxflow.components import Component, build_transform
from voxflow.components.transforms.grids import read_geometry
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

FLIPPED = (-1, 0, 0, 0, 1, 0, 0, 0, -1)


def build(name: str, **args: object) -> Any:
    return build_transform(Component(name=name, args=args))


@pytest.fixture
def sample(tmp_path: Path) -> dict[str, Any]:
    """An image and its mask on an anisotropic grid whose first and last axes run backwards."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(20, 18, 9)), 2).astype(np.float32)
    geometry = Geometry.from_parts((20, 18, 9), (0.7, 0.9, 3.1), (10, -20, 30), FLIPPED)
    write_volume(tmp_path / "image.nii.gz", Volume(image, geometry))
    write_volume(tmp_path / "label.nii.gz", Volume((image > 0).astype(np.uint8) * 2, geometry))
    return {"case": "p1", "image": tmp_path / "image.nii.gz", "label": tmp_path / "label.nii.gz"}


def load_sample(sample: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = build("LoadNifti", fields=["image", "label"])(sample)
    return out


def by_sitk(path: Path, grid: Geometry, interpolator: int) -> np.ndarray:
    reference = sitk.Image(grid.size, sitk.sitkFloat32)
    reference.SetSpacing(grid.spacing)
    reference.SetOrigin(grid.origin)
    reference.SetDirection(grid.direction.ravel().tolist())
    image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    resampled = sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), interpolator))
    return np.asarray(resampled.transpose(2, 1, 0))


def test_a_loaded_field_knows_where_it_lies(sample: dict[str, Any]) -> None:
    image = sitk.ReadImage(str(sample["image"]))
    grid = read_geometry(load_sample(sample), "image")
    assert grid.origin == pytest.approx(image.GetOrigin())
    assert grid.spacing == pytest.approx(image.GetSpacing())
    np.testing.assert_allclose(grid.direction.ravel(), image.GetDirection(), atol=1e-6)


def test_scale_by_resolution_is_sitks_resampling(sample: dict[str, Any]) -> None:
    out = build("ScaleByResolution", fields=["image", "label"], target_resolution=[1.0, 1.0, 1.0])(load_sample(sample))
    grid = read_geometry(out, "image")
    assert grid.spacing == pytest.approx((1, 1, 1))
    assert grid.size == (14, 16, 28)
    np.testing.assert_allclose(out["image"][0], by_sitk(sample["image"], grid, sitk.sitkLinear), atol=1e-5)
    np.testing.assert_array_equal(out["label"][0], by_sitk(sample["label"], grid, sitk.sitkNearestNeighbor))
    assert out["spacing"] == (1.0, 1.0, 1.0)


def test_a_label_by_another_name_takes_the_nearest_voxel(sample: dict[str, Any]) -> None:
    read = load_sample(sample)
    floats = read | {"image": read["label"].astype(np.float32)}
    scale = build("ScaleByResolution", fields="image", is_label=True, target_resolution=[0.5, 0.5, 1.0])
    assert set(np.unique(scale(floats)["image"])) == {0, 2}


def test_what_was_resampled_comes_back_to_its_own_voxels(sample: dict[str, Any]) -> None:
    read = build("tlt2:LoadNifty", fields=["image"])(
        build("tlt2:LoadResolutionFromNifty", applied_key="image", new_key="image_resolution")(sample)
    )
    assert read["image_resolution"] == pytest.approx((0.7, 0.9, 3.1))
    resampled = build(
        "tlt2:ResampleVolume", applied_key="image", resolution="image_resolution", target_resolution=[1.0, 1.0, 1.0]
    )(read)
    assert read_geometry(resampled, "image").spacing == (1, 1, 1)
    answer = resampled | {"model": (resampled["image"] > 0).astype(np.uint8), "model_affine": resampled["image_affine"]}
    restored = build(
        "tlt2:ResampleVolume", applied_key="model", resolution=[1.0, 1.0, 1.0], target_resolution="image_resolution"
    )(answer)
    assert restored["model"].shape == (1, 20, 18, 9)
    assert read_geometry(restored, "model").is_close(read_geometry(read, "image"))
    assert (restored["model"][0] == (read["image"][0] > 0)).mean() > 0.9


def test_the_array_is_taken_to_have_the_resolution_that_is_stated() -> None:
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)
    resample = build("tlt2:ResampleVolume", applied_key="image", resolution=[2, 2, 2], target_resolution=[1, 1, 1])
    assert resample({"image": image})["image"].shape == (1, 16, 16, 16)


@pytest.mark.parametrize(
    ("name", "args", "parameters"),
    [
        ("tlt2:CropSubVolumeCenter", {"fields": ["image", "label"], "size": [8, 6, 4]}, None),
        ("tlt2:CropForegroundObject", {"size": [12, 10, 6]}, None),
        ("ScaleToShape", {"fields": ["image", "label"], "target_shape": [11, 9, 15]}, None),
        (
            "CropFixedSizeRandomCenter",
            {"fields": ["image", "label"], "size": [8, 6, 4]},
            {"start": np.array([3, 5, 2])},
        ),
        ("FastCropByPosNegRatio", {"fields": "image", "size": [8, 6, 4]}, {"start": np.array([3, 5, 2])}),
        (
            "FastPosNegRatioCropROI",
            {"image_field": "image", "size": [9, 7, 5], "rotation": True, "scale": True},
            {"centre": np.array([9.5, 8, 4]), "angles": np.array([0.2, -0.1, 0.3]), "factor": 1.1, "bend": None},
        ),
    ],
)
def test_what_is_cropped_or_resized_is_sitks_resampling_at_the_place_that_is_noted(
    name: str, args: dict[str, Any], parameters: dict[str, Any] | None, sample: dict[str, Any]
) -> None:
    transform, read = build(name, **args), load_sample(sample)
    out = transform(read) if parameters is None else transform.apply(read, parameters)
    affine = out["image_affine"]
    size = np.array(out["image"].shape[1:])
    source = sitk.ReadImage(str(sample["image"]))
    inside = np.stack(np.meshgrid(*(np.arange(1, n - 1) for n in size), indexing="ij"), -1).reshape(-1, 3)[::7]
    points = inside @ affine[:3, :3].T + affine[:3, 3]
    expected = [source.EvaluateAtPhysicalPoint(point.tolist(), sitk.sitkLinear) for point in points]
    np.testing.assert_allclose(out["image"][0][tuple(inside.T)], expected, atol=2e-3)
    np.testing.assert_allclose(out["label_affine"], affine)


def test_a_4d_file_is_channels_and_a_one_hot_mask(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (3, 4, 5, 6)).astype(np.uint8)
    sitk.WriteImage(
        sitk.JoinSeries([sitk.GetImageFromArray(m.transpose(2, 1, 0)) for m in masks]), tmp_path / "l.nii.gz"
    )
    out = build("LoadNifti", fields=["label"])({"label": tmp_path / "l.nii.gz"})
    np.testing.assert_array_equal(out["label"], masks)
    colours = sitk.Compose([sitk.GetImageFromArray(m.transpose(2, 1, 0)) for m in masks])
    sitk.WriteImage(colours, tmp_path / "v.nrrd")
    np.testing.assert_array_equal(build("LoadNifti", fields="image")({"image": tmp_path / "v.nrrd"})["image"], masks)


def test_canonical_axes_run_to_right_anterior_and_superior(sample: dict[str, Any]) -> None:
    out = build("LoadNifti", fields="image", as_closest_canonical=True)({"image": sample["image"]})
    assert read_geometry(out, "image").orientation == "RAS"
    reference = sitk.DICOMOrient(sitk.ReadImage(str(sample["image"])), "LPS")
    # SimpleITK names where axes come from, and "RAS" here names where they go: flip i and j of its LPS.
    expected = sitk.GetArrayFromImage(reference).transpose(2, 1, 0)[::-1, ::-1]
    np.testing.assert_allclose(out["image"][0], expected)
