"""Any multi-frame object, whole or a concatenation: every frame's pixels lie where its functional groups say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, RLELossless, generate_uid
from scipy.spatial.transform import Rotation

from tests.dicom.objects import FRAME, item, new, save
from voxflow.dicom import ConvertOptions, convert_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

RIGHT_ANGLES = st.tuples(*[st.sampled_from([-180.0, -90.0, 0.0, 90.0])] * 3)
ANY_ANGLES = st.tuples(st.floats(-180, 180), st.floats(-85, 85), st.floats(-180, 180))


def make_object(
    stored: NDArray[Any],
    positions: NDArray[np.float64],
    axes: NDArray[np.float64],
    spacing: tuple[float, float],
    slopes: Sequence[float],
    *,
    modality: str,
) -> Dataset:
    """An enhanced object of frames (frames, rows, columns) at their positions, each with a slope of its own."""
    kind = EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage
    d = new(kind, modality, "1.2.3")
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    d.FrameOfReferenceUID, d.ImageType = FRAME, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    d.NumberOfFrames, d.Rows, d.Columns = stored.shape
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 12, 11
    orientation = [f"{v:.12f}"[:16] for v in axes[:, :2].T.ravel()]
    d.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=list(spacing))],
            PlaneOrientationSequence=[item(ImageOrientationPatient=orientation)],
        )
    ]
    d.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[f"{v:.10g}"[:16] for v in position])],
            PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=-5, RescaleType="US")],
        )
        for position, slope in zip(positions, slopes, strict=True)
    ]
    d.PixelData = stored.astype("<u2").tobytes()
    return d


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    turn=st.one_of(RIGHT_ANGLES, ANY_ANGLES),
    spacing=st.tuples(st.floats(0.2, 4), st.floats(0.2, 4), st.floats(0.3, 9)),
    corner=st.tuples(*[st.floats(-900, 900)] * 3),
    shape=st.tuples(st.integers(6, 12), st.integers(8, 14), st.integers(8, 14)),
    parts=st.integers(1, 4),
    modality=st.sampled_from(["CT", "MR"]),
    packed=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_same_physical_point_lies_under_every_voxel_of_every_frame(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    turn: tuple[float, ...],
    spacing: tuple[float, ...],
    corner: tuple[float, ...],
    shape: tuple[int, int, int],
    parts: int,
    modality: str,
    packed: bool,
    seed: int,
) -> None:
    folder, rng = tmp_path_factory.mktemp("any"), np.random.default_rng(seed)
    axes = Rotation.from_euler("zyx", turn, degrees=True).as_matrix()
    down, right, step = (round(mm, 4) for mm in spacing)
    order = rng.permutation(shape[0])
    stored = rng.integers(0, 4096, shape).astype(np.uint16)
    positions = np.round(corner, 3) + order[:, None] * step * np.cross(axes[:, 0], axes[:, 1])
    slopes = rng.choice([0.5, 1.0, 2.0], shape[0]).tolist()
    pieces = np.array_split(np.arange(shape[0]), parts)
    for number in rng.permutation(parts):
        frames = pieces[number]
        d = make_object(
            stored[frames], positions[frames], axes, (down, right), [slopes[n] for n in frames], modality=modality
        )
        if parts > 1:
            d.ConcatenationUID, d.InConcatenationNumber, d.InConcatenationTotalNumber = "1.2.7", int(number) + 1, parts
        if packed:
            d.compress(RLELossless, generate_instance_uid=False)
        save(d, folder / f"in/{rng.integers(1_000_000)}")
    convert_folder(folder / "in", folder / "out", ConvertOptions(pseudonym_key="k", workers=1))
    (path,) = (folder / "out/images").iterdir()
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj)
    assert voxels.size == stored.size
    # DICOM PS3.3 C.7.6.2.1.1, frame by frame, and NIfTI's affine as nibabel reads it.
    to_voxel = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine)
    y, x = np.mgrid[: shape[1], : shape[2]]
    for frame, position in enumerate(positions):
        points = position + x[..., None] * right * axes[:, 0] + y[..., None] * down * axes[:, 1]
        index = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        nearest = np.rint(index).astype(int)
        assert np.abs(index - nearest).max() < 0.01
        expected = stored[frame] * slopes[frame] - 5
        assert np.allclose(voxels[tuple(np.moveaxis(nearest, -1, 0))], expected, atol=1e-3)
