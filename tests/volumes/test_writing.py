"""Volumes are written so that every reader sees the same, and never by half."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.volumes import VOLUME_SUFFIXES, Volume, read_volume, write_volume

TYPES = ("uint8", "int16", "uint16", "int32", "float32", "float64")
OBLIQUE = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]


def noise(dtype: str = "int16", direction: np.ndarray = OBLIQUE) -> Volume:
    array = (np.random.default_rng(0).normal(size=(9, 7, 5)) * 50).astype(dtype)
    return Volume(array, Geometry.from_parts(array.shape, (0.7, 1.3, 4.2), (10.5, -20.25, 30.125), direction))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_every_type_and_format_comes_back(tmp_path: Path, suffix: str, dtype: str) -> None:
    volume = noise(dtype)
    write_volume(tmp_path / f"a{suffix}", volume)
    read = read_volume(tmp_path / f"a{suffix}")
    assert read.array.dtype == volume.array.dtype
    assert np.array_equal(read.array, volume.array)
    assert read.geometry.is_close(volume.geometry)


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1.0, -1.0, 1.0]), np.diag([1.0, 1.0, -1.0]), OBLIQUE])
def test_nifti_is_what_nibabel_and_simpleitk_expect(tmp_path: Path, direction: np.ndarray) -> None:
    volume = noise(direction=direction)
    path = tmp_path / "a.nii.gz"
    write_volume(path, volume)
    by_nibabel = nibabel.load(path)
    np.testing.assert_allclose(by_nibabel.affine, volume.geometry.affine_ras, atol=1e-4)
    np.testing.assert_allclose(by_nibabel.header.get_qform(), volume.geometry.affine_ras, atol=1e-3)
    assert np.array_equal(np.asarray(by_nibabel.dataobj), volume.array)
    by_itk = sitk.ReadImage(str(path))
    assert by_itk.GetSpacing() == pytest.approx(volume.geometry.spacing, abs=1e-5)
    assert by_itk.GetOrigin() == pytest.approx(volume.geometry.origin, abs=1e-4)
    assert by_itk.GetDirection() == pytest.approx(volume.geometry.direction.ravel().tolist(), abs=1e-5)


def test_equal_volumes_make_equal_files(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, noise())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_type_that_nifti_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"NIfTI has no voxel type float16"):
        write_volume(tmp_path / "a.nii", noise("float16"))
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
noise = np.random.default_rng(0).integers(0, 255, (64, 64, 32)).astype(np.uint8)
try:
    write_volume(Path(sys.argv[1]), Volume(noise, Geometry.from_parts(noise.shape, (1, 1, 1))))
except OSError:
    sys.exit(f"left {list(Path().iterdir())}" if list(Path().iterdir()) else 0)
sys.exit("no error")
"""


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    source = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, "-c", FULL_DISK, name]
    result = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": source}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("seed", range(20))
def test_the_nifti_header_is_nibabels(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    direction = np.linalg.qr(rng.normal(size=(3, 3)))[0] if seed % 2 else np.eye(3)[rng.permutation(3)]
    array = np.zeros((4, 5, 6), TYPES[seed % len(TYPES)])
    spacing, origin = rng.uniform(0.3, 5, 3), rng.uniform(-300, 300, 3)
    geometry = Geometry.from_parts(array.shape, tuple(spacing), tuple(origin), direction)
    write_volume(tmp_path / "a.nii", Volume(array, geometry))
    expected = nibabel.Nifti1Header()
    expected.set_data_dtype(array.dtype)
    expected.set_data_shape(array.shape)
    expected.set_qform(geometry.affine_ras, code=1)
    expected.set_sform(geometry.affine_ras, code=1)
    expected.set_xyzt_units("mm")
    expected.set_slope_inter(1, 0)
    expected["vox_offset"] = 352
    with (tmp_path / "a.nii").open("rb") as stream:
        written = nibabel.Nifti1Header.from_fileobj(stream)
    assert np.allclose(written.get_qform(), expected.get_qform(), atol=1e-3)
    for key in set(expected.keys()) - {"quatern_b", "quatern_c", "quatern_d"}:
        value, image = written[key], expected[key]
        assert np.allclose(value, image, equal_nan=True) if value.dtype.kind in "if" else value == image, key
