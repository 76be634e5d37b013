"""SEG and RTSTRUCT give back the masks that they were made of, on any grid, rotated and uneven."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contourpy import contour_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.dicom.objects import Series, contour, random_values, save, seg, structure_set
from tests.dicom.test_remedies import UNEVEN
from tests.dicom.test_remedies import write as write_ramp
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

OPTIONS = ConvertOptions(pseudonym_key="k", workers=1, irregular_spacing="resample")
SHAPE = (5, 9, 7)


@st.composite
def any_series(draw: st.DrawFn) -> Series:
    turned = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-3, 3)] * 3))).as_matrix()
    return Series(
        random_values(SHAPE),
        orientation=[float(value) for value in turned[:, :2].T.ravel()],
        origin=draw(st.tuples(*[st.floats(-400, 400)] * 3)),
        spacing=(draw(st.floats(0.3, 3)), draw(st.floats(0.3, 3))),
        step=draw(st.floats(0.5, 6)),
        uid="1.2.3",
    )


def masks(seed: int, segments: int) -> NDArray[np.uint8]:
    """Masks (slices, rows, columns, segments) that do not overlap; some slices are empty."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, segments + 1, SHAPE)
    # Never every other slice alone: between those, a structure set is interpolated.
    labels[(rng.random(SHAPE[0]) < 0.3) & (np.arange(SHAPE[0]) != 1)] = 0
    labels[0, 0, 0], labels[-1, -1, -1] = 1, segments
    return np.stack([labels == n for n in range(1, segments + 1)], axis=-1).astype(np.uint8)


def convert(series: Series, label: Dataset) -> NDArray[Any]:
    """The label (slices, rows, columns) in the order of the series as written."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        series.write(folder / "in/ct")
        save(label, folder / "in/label")
        convert_folder(folder / "in", folder / "out", OPTIONS)
        return read_volume(next((folder / "out/labels").iterdir())).array.transpose(2, 1, 0)


@settings(max_examples=12, deadline=None)
@given(any_series(), st.integers(0, 10**6), st.sampled_from(["BINARY", "FRACTIONAL", "LABELMAP"]))
def test_a_segmentation_gives_back_its_masks(series: Series, seed: int, kind: str) -> None:
    mask = masks(seed, 3)
    expected = (mask * np.arange(1, 4)).sum(axis=-1)
    stored = (
        expected.astype(np.uint8) if kind == "LABELMAP" else mask.astype(float if kind == "FRACTIONAL" else np.uint8)
    )
    more = {"max_fractional_value": 100, "fractional_type": "OCCUPANCY"} if kind == "FRACTIONAL" else {}
    dataset = seg(series, stored, ["a", "b", "c"], kind, **more)
    assert np.array_equal(convert(series, dataset), expected)


@settings(max_examples=6, deadline=None)
@given(any_series(), st.integers(0, 10**6))
def test_the_order_of_frames_and_the_numbers_of_segments_do_not_matter(series: Series, seed: int) -> None:
    mask = masks(seed, 2)
    dataset = seg(series, mask, ["a", "b"], "FRACTIONAL", max_fractional_value=1, fractional_type="OCCUPANCY")
    order = np.random.default_rng(seed).permutation(int(dataset.NumberOfFrames))
    frames = dataset.pixel_array.reshape(len(order), *SHAPE[1:])
    dataset.PixelData = np.ascontiguousarray(frames[order]).tobytes() + b"\0" * (frames.size % 2)
    dataset.PerFrameFunctionalGroupsSequence = [dataset.PerFrameFunctionalGroupsSequence[n] for n in order]
    numbers = {1: 40, 2: 7}
    for description in dataset.SegmentSequence:
        description.SegmentNumber = numbers[description.SegmentNumber]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        identification = group.SegmentIdentificationSequence[0]
        identification.ReferencedSegmentNumber = numbers[identification.ReferencedSegmentNumber]
    assert np.array_equal(convert(series, dataset), mask[..., 0] + 2 * mask[..., 1])


@settings(max_examples=12, deadline=None)
@given(any_series(), st.integers(0, 10**6), st.floats(-0.3, 0.3))
def test_a_structure_set_gives_back_its_masks(series: Series, seed: int, off: float) -> None:
    """Contours by contourpy, holes and islands and all, a part of a slice off their slices."""
    mask, images = masks(seed, 2), series.datasets()
    axes = np.array(series.orientation).reshape(2, 3) * np.array(series.spacing)[::-1, None]
    rois = {}
    for n, name in enumerate("ab"):
        slices = [contour_generator(z=np.pad(mask[k, ..., n], 1).astype(float)).lines(0.5) for k in range(SHAPE[0])]
        rois[name] = [
            contour(
                (np.asarray(outline)[:-1] - 1) @ axes + series.origin + (k + off) * series.step * series.normal,
                images[k],
            )
            for k, outlines in enumerate(slices)
            for outline in outlines
        ]
    label = convert(series, structure_set(rois, images))
    assert np.array_equal(label, mask[..., 0] + 2 * mask[..., 1])


@pytest.mark.parametrize("kind", ["SEG", "RTSTRUCT"])
@pytest.mark.parametrize("lean", [0.0, 0.25], ids=["uneven", "uneven and tilted"])
def test_a_label_moves_with_an_image_that_is_mended(tmp_path: Path, kind: str, lean: float) -> None:
    """A block through slices 1 to 5 of uneven ones keeps its outline in every plane between, and its place."""
    offsets = UNEVEN + np.outer(UNEVEN[:, 2], (0, lean, 0))
    series = write_ramp(tmp_path / "in/ct", offsets)
    from pydicom import dcmread

    images = sorted(
        (dcmread(path) for path in (tmp_path / "in/ct").iterdir()), key=lambda d: -d.ImagePositionPatient[0]
    )
    mask = np.zeros((len(images), 12, 14), np.uint8)
    mask[1:6, 3:8, 4:11] = 1
    if kind == "SEG":
        import highdicom as hd
        from pydicom.sr.codedict import codes
        from pydicom.uid import generate_uid

        description = hd.seg.SegmentDescription(1, "Organ", codes.SCT.Organ, codes.SCT.Spleen, "MANUAL")
        label: Dataset = hd.seg.Segmentation(
            images, mask, "BINARY", [description], generate_uid(), 2, generate_uid(), 1, "m", "m", "1", "1"
        )
    else:
        corners = np.array([[3.5, 2.5], [10.5, 2.5], [10.5, 7.5], [3.5, 7.5]])
        axes = np.array(series.orientation).reshape(2, 3) * np.array([[0.8], [1.5]])
        label = structure_set(
            {
                "Organ": [
                    contour(np.array(images[k].ImagePositionPatient) + corners @ axes, images[k]) for k in range(1, 6)
                ]
            },
            images,
        )
    save(label, tmp_path / "in/label")
    convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    moved = read_volume(next((tmp_path / "out/labels").iterdir()))
    image = read_volume(next((tmp_path / "out/images").iterdir()))
    assert moved.geometry.is_close(image.geometry)
    areas = moved.array.sum(axis=(0, 1))
    # Slices 1 to 5 lie at 1 to 9 mm, and planes every 2 mm; that at 10 mm is nearest to the last of them.
    assert np.flatnonzero(areas).tolist() == [1, 2, 3, 4, 5]
    assert (np.abs(areas[areas > 0] - 35) <= (7 if lean else 0)).all()
    _check_centre(moved, offsets, series, lean)


def test_a_slice_that_the_resampled_image_does_not_take_is_counted(tmp_path: Path) -> None:
    """Slice 1 lies at 1 mm, and the new planes at 0 and 2 mm, on slices of their own."""
    series = write_ramp(tmp_path / "in/ct", UNEVEN)
    axes = np.array(series.orientation).reshape(2, 3) * np.array([[0.8], [1.5]])
    corners = np.array([[3.5, 2.5], [10.5, 2.5], [10.5, 7.5], [3.5, 7.5]])
    contours = [contour(corners @ axes + height * series.normal) for height in (1.0, 2.0)]
    save(structure_set({"Organ": contours}), tmp_path / "in/label")
    convert_folder(tmp_path / "in", tmp_path / "out", OPTIONS)
    text = (tmp_path / "out/conversion.csv").read_text()
    assert "moved with its image" in text
    assert "1 slice(s) of it lie between the planes of the resampled image" in text
    moved = read_volume(next((tmp_path / "out/labels").iterdir()))
    assert np.flatnonzero(moved.array.any(axis=(0, 1))).tolist() == [1]


def _check_centre(moved: Volume, offsets: NDArray[np.float64], series: Series, lean: float) -> None:
    """The middle of the block in each plane lies on the line through the middles of its slices."""
    row, column = np.array(series.orientation).reshape(2, 3)
    middle = 7 * 0.8 * row + 5 * 1.5 * column
    for k in np.flatnonzero(moved.array.any(axis=(0, 1))):
        voxels = np.argwhere(moved.array[:, :, k])
        point = moved.geometry.to_physical(np.append(voxels.mean(axis=0), k))
        height = float(point @ series.normal)
        on_line = middle + height * (series.normal + lean * column)
        assert np.linalg.norm(point - on_line) <= 1.01  # half a pixel, and the lean over half a step
