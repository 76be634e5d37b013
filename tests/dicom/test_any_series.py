"""Any sound series, however turned, spaced, named, signed or packed: every pixel's value lies where its slice says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from scipy.spatial.transform import Rotation

from tests.dicom.objects import Series, pixels
from tests.dicom.physical_points import ANGLES, assert_pixels_are_voxels
from voxflow.dicom import ConvertOptions, convert_folder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
PACKED = (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1)
gdcm: Any = pytest.importorskip("gdcm")


def write(dataset: Dataset, path: Path, syntax: str) -> None:
    """Write with another transfer syntax, by pydicom, or by GDCM where pydicom has no encoder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax == JPEGLosslessSV1:
        # GDCM reads lazily, so that it must not write over what it reads.
        plain = path.with_suffix(".plain")
        dataset.save_as(plain, enforce_file_format=True)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(path))
        assert writer.Write()
        plain.unlink()
        return
    if syntax in PACKED:
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.save_as(path, enforce_file_format=True)
    assert pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax


def values_of(shape: tuple[int, int, int], bits: int, *, signed: bool, seed: int) -> NDArray[Any]:
    """Waves with noise over the whole range: the JPEG-LS encoder fails on what noise alone makes larger."""
    k, y, x = np.indices(shape)
    waves = np.sin(x / 3 + k) * np.cos(y / 5 - seed)
    noise = np.random.default_rng(seed).uniform(-1, 1, shape)
    values = np.rint((0.9 * waves + 0.1 * noise) * (2 ** (bits - 1) - 1)).astype(int)
    kind = f"int{8 if bits == 8 else 16}"
    return np.asarray(values, kind) if signed else np.asarray(values + 2 ** (bits - 1), f"u{kind}")


def fill(dataset: Dataset, values: NDArray[Any], bits: int) -> None:
    """Pixels of 8 bits in a byte, of more in two."""
    pixels(dataset, values, bits)
    if bits == 8:
        dataset.BitsAllocated = 8
        dataset.PixelData += bytes(len(dataset.PixelData) % 2)
        dataset["PixelData"].VR = "OB"


# The same series each time: by chance a frame packs to just its plain size, which pydicom takes for a false syntax.
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    turn=ANGLES,
    spacing=st.tuples(st.floats(0.2, 4), st.floats(0.2, 4), st.floats(0.3, 9)),
    corner=st.tuples(*[st.floats(-900, 900)] * 3),
    shape=st.tuples(st.integers(3, 7), st.integers(32, 45), st.integers(32, 45)),
    bits=st.sampled_from([8, 10, 12, 16]),
    signed=st.booleans(),
    scale=st.sampled_from([(1.0, 0.0), (1.0, -1024.0), (2.0, 3.0), (0.25, -10.5)]),
    syntax=st.sampled_from(PLAIN + PACKED),
    seed=st.integers(0, 999),
)
def test_the_same_physical_point_lies_under_every_voxel(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    turn: tuple[float, ...],
    spacing: tuple[float, ...],
    corner: tuple[float, ...],
    shape: tuple[int, int, int],
    bits: int,
    signed: bool,
    scale: tuple[float, float],
    syntax: str,
    seed: int,
) -> None:
    # GDCM's encoder stumbles over the byte that pads an odd number of them.
    assume(not (syntax == JPEGLosslessSV1 and bits == 8 and shape[1] * shape[2] % 2))
    folder = tmp_path_factory.mktemp("any")
    stored = values_of(shape, bits, signed=signed, seed=seed)
    axes = Rotation.from_euler("zyx", turn, degrees=True).as_matrix()
    down, right, step = (round(mm, 4) for mm in spacing)
    series = Series(
        stored, axes[:, :2].T.ravel().tolist(), [round(mm, 3) for mm in corner], spacing=(down, right), step=step
    )
    rng = np.random.default_rng(seed)
    names, written = rng.permutation(len(stored)), []
    for k, dataset in enumerate(series.datasets()):
        fill(dataset, stored[k], bits)
        dataset.InstanceNumber = int(rng.integers(1, 999))
        dataset.RescaleSlope, dataset.RescaleIntercept = scale
        write(dataset, folder / f"in/{names[k] % 2}/{names[k]}", syntax)
        written.append(pydicom.dcmread(folder / f"in/{names[k] % 2}/{names[k]}", stop_before_pixels=True))
    convert_folder(folder / "in", folder / "out", ConvertOptions(pseudonym_key="k", workers=1, min_slices=3))
    (path,) = (folder / "out/images").iterdir()
    image = nibabel.load(path)
    assert np.prod(image.shape) == stored.size
    for k, dataset in enumerate(written):
        position, orientation = dataset.ImagePositionPatient, dataset.ImageOrientationPatient
        expected = stored[k] * scale[0] + scale[1]
        assert_pixels_are_voxels(image, position, orientation, (down, right), expected)
