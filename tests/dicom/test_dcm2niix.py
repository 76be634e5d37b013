"""dcm2niix, an independent converter, agrees wherever it is right, and converts what should be refused."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from scipy.spatial.transform import Rotation

from tests.dicom.objects import Series, random_values, save
from tests.dicom.test_remedies import RAMP, write
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

OPTIONS = ConvertOptions(pseudonym_key="k", workers=1)


@pytest.fixture
def convert_by_dcm2niix() -> Callable[[Path, str], Volume]:
    """Converts a folder with dcm2niix, and reads the volume whose name ends as asked."""
    program = shutil.which("dcm2niix", path=sysconfig.get_path("scripts")) or shutil.which("dcm2niix")
    if program is None:
        pytest.skip("dcm2niix is not installed (pip install dcm2niix)")

    def convert(folder: Path, ending: str = "") -> Volume:
        out = folder.parent / "theirs"
        out.mkdir(exist_ok=True)
        command = [program, "-z", "n", "-b", "n", "-f", "x", "-o", str(out), str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return read_volume(out / f"x{ending}.nii")

    return convert


def convert_by_voxflow(folder: Path) -> Volume:
    convert_folder(folder, folder.parent / "ours", OPTIONS)
    return read_volume(next((folder.parent / "ours/images").iterdir()))


def sample_at_grid_of(volume: Volume, reference: Volume) -> NDArray[Any]:
    """My voxels in the order of the other's, whose axes may run the other way; off the grid is an error."""
    grid = np.stack(np.meshgrid(*map(np.arange, reference.geometry.size), indexing="ij"), axis=-1).reshape(-1, 3)
    index = volume.geometry.to_index(reference.geometry.to_physical(grid.astype(float)))
    assert np.abs(index - np.rint(index)).max() < 1e-3
    return np.asarray(volume.array[tuple(np.rint(index).astype(int).T)].reshape(reference.array.shape))


@pytest.mark.parametrize("turn", [(0, 0, 0), (30, 0, 0), (0, 90, 0), (-20, 35, 70), (90, 0, -90)])
@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_both_put_the_same_value_at_the_same_point(
    tmp_path: Path, convert_by_dcm2niix: Callable[[Path, str], Volume], turn: tuple[int, ...], slope: float
) -> None:
    axes = Rotation.from_euler("zyx", turn, degrees=True).as_matrix()
    orientation = axes[:, :2].T.ravel().tolist()
    series = Series(random_values(), orientation=orientation, origin=(12.5, -40, 7), slopes=[slope] * 6)
    series.write(tmp_path / "in")
    volume, reference = convert_by_voxflow(tmp_path / "in"), convert_by_dcm2niix(tmp_path / "in", "")
    assert volume.geometry.size == reference.geometry.size
    assert np.allclose(sample_at_grid_of(volume, reference), reference.array, rtol=1e-6)


def test_both_straighten_a_tilted_stack_alike(
    tmp_path: Path, convert_by_dcm2niix: Callable[[Path, str], Volume]
) -> None:
    write(tmp_path / "in", np.outer(np.arange(6), (0, -0.7, 2)), (1.0, 0, 0, 0, 1.0, 0))
    for path in (tmp_path / "in").iterdir():
        # dcm2niix goes by this attribute, we by the positions.
        dataset = pydicom.dcmread(path)
        dataset.GantryDetectorTilt = 19.29
        dataset.save_as(path)
    volume, reference = convert_by_voxflow(tmp_path / "in"), convert_by_dcm2niix(tmp_path / "in", "_Tilt_1")
    grid = np.stack(np.meshgrid(*map(np.arange, volume.geometry.size), indexing="ij"), axis=-1).astype(float)
    expected = volume.geometry.to_physical(grid) @ RAMP
    inside = np.abs(volume.array - expected) < 0.2
    assert inside.mean() > 0.6
    assert reference.geometry.size == volume.geometry.size
    assert reference.geometry.spacing == pytest.approx(volume.geometry.spacing, abs=1e-3)


@pytest.mark.parametrize("lean", [-0.7, -0.45, 0.45, 0.7])
def test_both_give_a_straightened_stack_the_same_voxels(
    tmp_path: Path, convert_by_dcm2niix: Callable[[Path, str], Volume], lean: float
) -> None:
    def wave(x: Any, y: Any, z: Any) -> Any:
        return 1000 + 500 * np.sin(x / 9) * np.cos(y / 11) + 10 * z

    series = Series(np.zeros((10, 40, 36), np.int16), spacing=(1.0, 1.0), step=2.0)
    for k, dataset in enumerate(series.datasets()):
        y, x = np.mgrid[:40, :36]
        dataset.ImagePositionPatient, dataset.RescaleIntercept = [0, lean * k, 2.0 * k], 0
        dataset.PixelData = np.rint(wave(x, y + lean * k, 2 * k)).astype("<i2").tobytes()
        dataset.GantryDetectorTilt = float(-np.degrees(np.arctan(lean / 2)))
        save(dataset, tmp_path / f"in/{k}")
    volume, reference = convert_by_voxflow(tmp_path / "in"), convert_by_dcm2niix(tmp_path / "in", "_Tilt_1")
    resampled = sample_at_grid_of(reference, volume)
    points = volume.geometry.to_physical(np.moveaxis(np.indices(volume.geometry.size), 0, -1).astype(float))
    # Rows that every slice reaches, less the rim, where we blend with what lies outside and dcm2niix does not.
    inner = (slice(None), slice(9, -9), slice(None))
    expected = wave(*np.moveaxis(points, -1, 0))
    assert np.abs(volume.array - expected)[inner].max() < 3
    if lean < 0:
        assert np.abs(volume.array - resampled)[inner].max() <= 1
        return
    # Leaning to this side, dcm2niix's header is off by what its size was rounded up: up to a row.
    x, y, z = np.moveaxis(points, -1, 0)
    off = np.ceil(9 * lean) - 9 * lean
    assert np.abs(resampled - expected)[inner].max() > 20
    assert np.abs(resampled - wave(x, y - off, z))[inner].max() < 3


def drop(datasets: list[Any]) -> None:
    del datasets[3]


def coarser(datasets: list[Any]) -> None:
    datasets[3].PixelSpacing = [3, 2]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(drop, "1 slice.s. missing"), (coarser, "mixed spacing")],
)
def test_what_dcm2niix_converts_all_the_same_is_refused(
    tmp_path: Path, convert_by_dcm2niix: Callable[[Path, str], Volume], spoil: Callable[[list[Any]], None], reason: str
) -> None:
    datasets = Series(random_values(), uid="1.2.3").datasets()
    spoil(datasets)
    for k, dataset in enumerate(datasets):
        save(dataset, tmp_path / "in" / str(k))
    assert convert_by_dcm2niix(tmp_path / "in", "").array.size
    with pytest.raises(DataError, match=reason):
        convert_by_voxflow(tmp_path / "in")
