"""Any multi-frame object, whole or a concatenation: every frame's pixels lie where its functional groups say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, RLELossless, generate_uid
from scipy.spatial.transform import Rotation

from tests.dicom.objects import FRAME, item, new, save
from tests.dicom.physical_points import ANGLES, assert_pixels_are_voxels
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, Origin, convert_folder, find_sources, write_segmentation
from voxflow.errors import DicomError
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

OPTIONS = ConvertOptions(pseudonym_key="k", workers=1)


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
    turn=ANGLES,
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
    convert_folder(folder / "in", folder / "out", OPTIONS)
    (path,) = (folder / "out/images").iterdir()
    image = nibabel.load(path)
    assert np.prod(image.shape) == stored.size
    for frame, position in enumerate(positions):
        expected = stored[frame] * slopes[frame] - 5
        assert_pixels_are_voxels(image, position, axes[:, :2].T, (down, right), expected)


def write_concatenation(folder: Path, **attributes: Any) -> None:
    """Eight frames in two objects; as attributes, what they say of their concatenation."""
    stored = np.random.default_rng(0).integers(0, 4096, (8, 9, 7)).astype(np.uint16)
    positions = np.outer(np.arange(8), (0.0, 0.0, 2.0))
    for number, frames in enumerate((range(4), range(4, 8)), start=1):
        chosen = list(frames)
        d = make_object(stored[chosen], positions[chosen], np.eye(3), (1.0, 1.0), [1.0] * 4, modality="CT")
        d.ConcatenationUID, d.InConcatenationNumber = "1.2.7", number
        for keyword, value in attributes.items():
            setattr(d, keyword, value)
        save(d, folder / str(number))


@pytest.mark.parametrize("total", [{}, {"InConcatenationTotalNumber": 2}])
def test_a_concatenation_that_does_not_say_how_many_parts_it_has_is_told(tmp_path: Path, total: dict[str, int]) -> None:
    write_concatenation(tmp_path / "in", **total)
    convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    (row,) = read_table(tmp_path / "out/conversion.csv")
    assert (row["verdict"], row["size"]) == ("converted", "7 9 8")
    is_told = "one image in 2 objects, which do not say how many they are in all" in row["reason"]
    assert is_told is not bool(total)


def test_no_dicom_seg_is_written_for_a_concatenation(tmp_path: Path) -> None:
    write_concatenation(tmp_path / "in", InConcatenationTotalNumber=2)
    convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    (case,) = read_table(tmp_path / "out/cases.csv")
    origin = Origin(case["series_uid"], int(case["volume"]), case["instance_uid"])
    source = find_sources(tmp_path / "in", [origin], OPTIONS)[origin]
    image = read_volume(tmp_path / "out" / case["image"])
    mask = Volume(np.ones(image.geometry.size, np.uint8), image.geometry)
    with pytest.raises(DicomError, match="no DICOM SEG is written for a concatenation"):
        write_segmentation(tmp_path / "mask.dcm", mask, source, {1: "organ"})
    assert not (tmp_path / "mask.dcm").exists()
