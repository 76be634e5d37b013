"""A label goes to the images that it refers to, and to no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.dicom.objects import Series, contour, item, random_values, refer, save, seg, structure_set
from tests.dicom.test_several_volumes import two_in_one
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

SHAPE = (6, 9, 7)
ONE_FRAME = "1.2.77"


class Converted:
    """The tables and label volumes of a conversion."""

    def __init__(self, folder: Path, **options: Any) -> None:
        try:
            convert_folder(folder / "in", folder / "out", ConvertOptions(pseudonym_key="k", workers=1, **options))
        except DataError as error:
            self.failure, self.rows, self.cases = str(error), [], []
            return
        self._folder = folder / "out"
        self.rows, self.cases = (self._read(name) for name in ("conversion.csv", "cases.csv"))
        self.names = json.loads((self._folder / "labels.json").read_text())

    def _read(self, name: str) -> list[dict[str, str]]:
        return read_table(self._folder / name)

    def label(self, series_uid: str, number: int = 0) -> NDArray[Any] | None:
        """The label (slices, rows, columns) of a case of a series."""
        case = [case for case in self.cases if case["series_uid"] == series_uid][number]
        return read_volume(self._folder / case["label"]).array.transpose(2, 1, 0) if case["label"] else None

    def labels(self, verdict: str) -> list[str]:
        """The reasons of the rows of labels with a verdict."""
        return [r["reason"] for r in self.rows if r["modality"] in ("SEG", "RTSTRUCT") and r["verdict"] == verdict]


def box(z: float, x: float = 0.0) -> NDArray[np.float64]:
    """A rectangle at a height, mm, whose left edge is moved."""
    return np.array([[0.6 + x, 0.8, z], [5.4, 0.8, z], [5.4, 8.2, z], [0.6 + x, 8.2, z]])


def ct(uid: str, **changes: Any) -> Series:
    return Series(random_values(), uid=uid, frame=ONE_FRAME, changes=changes)


def drawn_on(series: Series, slices: tuple[int, ...] = (2, 3), *, by_contour: bool = True, **more: Any) -> Dataset:
    images = series.datasets()
    contours = [contour(box(2.0 * k), images[k] if by_contour else None) for k in slices]
    return structure_set({"Organ": contours}, images if more.pop("by_object", True) else (), [ONE_FRAME], **more)


@pytest.mark.parametrize(("by_contour", "by_object"), [(True, True), (True, False), (False, True)])
def test_a_structure_set_labels_its_series_and_no_other_of_the_frame(
    tmp_path: Path, by_contour: bool, by_object: bool
) -> None:
    for uid in ("1.2.1", "1.2.2", "1.2.3"):
        ct(uid).write(tmp_path / "in" / uid)
    save(drawn_on(ct("1.2.2"), by_contour=by_contour, by_object=by_object), tmp_path / "in/rt")
    converted = Converted(tmp_path)
    assert [bool(case["label"]) for case in converted.cases] == [False, True, False]
    assert converted.labels("converted") == [""]


def test_a_structure_set_of_a_quarantined_series_does_not_move_to_another(tmp_path: Path) -> None:
    for k, dataset in enumerate(ct("1.2.1").datasets()):
        if k != 3:
            save(dataset, tmp_path / f"in/a{k}")
    ct("1.2.2").write(tmp_path / "in/b")
    save(drawn_on(ct("1.2.1"), by_object=False), tmp_path / "in/rt")
    converted = Converted(tmp_path)
    assert converted.label("1.2.2") is None
    assert converted.labels("skipped") == ["its image series was quarantined"]


def test_a_label_of_a_modality_that_is_left_out_is_left_out_with_it(tmp_path: Path) -> None:
    ct("1.2.1").write(tmp_path / "in/ct")
    ct("1.2.2", Modality="MR").write(tmp_path / "in/mr")
    save(drawn_on(ct("1.2.1")), tmp_path / "in/rt")
    converted = Converted(tmp_path, modalities=["MR"])
    assert converted.label("1.2.2") is None
    assert converted.labels("skipped") == ["its image is left out: modality CT is not among MR"]
    assert converted.names == {"0": "background"}


@pytest.mark.parametrize("names_frames", [True, False])
def test_a_segmentation_of_one_time_point_labels_that_one(tmp_path: Path, names_frames: bool) -> None:
    two_in_one(tmp_path / "in/one")
    from pydicom import dcmread

    image = dcmread(next((tmp_path / "in").rglob("one*")))
    planes = [group.PlanePositionSequence[0] for group in image.PerFrameFunctionalGroupsSequence]
    times = [
        int(group.FrameContentSequence[0].TemporalPositionIndex) for group in image.PerFrameFunctionalGroupsSequence
    ]
    second = [n for n, time in enumerate(times) if time == max(times)]
    z = [float(planes[n].ImagePositionPatient[2]) for n in second[:2]]
    contours = [
        contour(box(height), image, frame=n + 1 if names_frames else 0) for n, height in zip(second, z, strict=False)
    ]
    save(structure_set({"Organ": contours}, [image]), tmp_path / "in/rt")
    converted = Converted(tmp_path)
    assert [bool(case["label"]) for case in converted.cases] == [not names_frames, True]


def test_each_frame_of_a_segmentation_labels_the_image_that_it_was_drawn_on(tmp_path: Path) -> None:
    first, second = ct("1.2.1"), ct("1.2.2")
    for series in (first, second):
        series.write(tmp_path / "in" / series.uid)
    mask = np.zeros((*SHAPE, 1), np.uint8)
    mask[1, 2:5, 1:4] = mask[4, 3:6, 2:6] = 1
    dataset = seg(first, mask, ["Lesion"])
    del dataset.ReferencedSeriesSequence
    images = {2.0: first.datasets()[1], 8.0: second.datasets()[4]}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        image = images[float(group.PlanePositionSequence[0].ImagePositionPatient[2])]
        group.DerivationImageSequence = [item(SourceImageSequence=[refer(image)])]
    save(dataset, tmp_path / "in/seg")
    converted = Converted(tmp_path)
    for uid, k in (("1.2.1", 1), ("1.2.2", 4)):
        expected = np.zeros(SHAPE, np.uint8)
        expected[k] = mask[k, ..., 0]
        label = converted.label(uid)
        assert label is not None
        assert np.array_equal(label, expected)


def test_rois_of_one_structure_set_go_each_to_its_own_frame_of_reference(tmp_path: Path) -> None:
    scan, image = ct("1.2.1"), Series(random_values(), uid="1.2.2", frame="1.2.88", changes={"Modality": "MR"})
    for series in (scan, image):
        series.write(tmp_path / "in" / series.uid)
    rois = {"Bone": [contour(box(2.0))], "Nerve": [contour(box(6.0, 2.0))]}
    save(
        structure_set(rois, [*scan.datasets(), *image.datasets()], [ONE_FRAME, "1.2.88"]),
        tmp_path / "in/rt",
    )
    converted = Converted(tmp_path)
    labels = [converted.label(uid) for uid in ("1.2.1", "1.2.2")]
    assert [np.unique(label).tolist() for label in labels if label is not None] == [[0, 1], [0, 2]]
    assert [row["case"] for row in converted.rows if row["modality"] == "RTSTRUCT"] == [
        case["case"] for case in converted.cases
    ]


def test_a_label_that_names_the_series_alone_needs_a_series_of_one_volume(tmp_path: Path) -> None:
    series = ct("1.2.1")
    series.write(tmp_path / "in/a")
    dataset = drawn_on(series, by_contour=False)
    named = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    del named.ContourImageSequence
    save(dataset, tmp_path / "in/rt")
    assert Converted(tmp_path).label("1.2.1") is not None


def test_a_label_of_another_patient_is_refused(tmp_path: Path) -> None:
    ct("1.2.1").write(tmp_path / "in/a")
    save(drawn_on(ct("1.2.1"), PatientID="SOMEBODY"), tmp_path / "in/rt")
    converted = Converted(tmp_path)
    assert converted.label("1.2.1") is None
    assert converted.labels("quarantined") == ["ROI 1 (Organ): (0010,0020): refers to images of another patient"]


def test_the_frame_of_reference_alone_counts_a_series_that_is_left_out(tmp_path: Path) -> None:
    ct("1.2.1").write(tmp_path / "in/ct")
    ct("1.2.2", Modality="PT").write(tmp_path / "in/pt")
    save(drawn_on(ct("1.2.9")), tmp_path / "in/rt")
    converted = Converted(tmp_path, modalities=["CT"])
    assert converted.label("1.2.1") is None
    assert "2 image series share its frame of reference" in converted.labels("quarantined")[0]


def test_a_scout_in_the_same_frame_of_reference_is_no_rival(tmp_path: Path) -> None:
    ct("1.2.1").write(tmp_path / "in/ct")
    ct("1.2.2", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]).write(tmp_path / "in/scout")
    save(drawn_on(ct("1.2.9")), tmp_path / "in/rt")
    converted = Converted(tmp_path)
    assert converted.label("1.2.1") is not None
    assert "given to the only volume" in converted.labels("converted")[0]


def two_sets(folder: Path, second: list[Dataset], **more: Any) -> Converted:
    """A case with two structure sets of one name: the first drawn in slice 2."""
    series = ct("1.2.1")
    series.write(folder / "in/a")
    images = series.datasets()
    save(structure_set({"Organ": [contour(box(4.0), images[2])]}, images, SeriesNumber=1), folder / "in/rt1")
    other = [contour(box(8.0), images[4])]
    save(structure_set({"Organ": second, "Other": other}, images, SeriesNumber=2, **more), folder / "in/rt2")
    return Converted(folder)


def test_one_name_in_two_objects_is_one_label_where_they_are_apart(tmp_path: Path) -> None:
    converted = two_sets(tmp_path, [contour(box(6.0))])
    label = converted.label("1.2.1")
    assert label is not None
    assert [np.unique(label[k]).tolist() for k in (2, 3, 4)] == [[0, 1], [0, 1], [0, 2]]


def test_the_same_label_in_two_objects_counts_once(tmp_path: Path) -> None:
    converted = two_sets(tmp_path, [contour(box(4.0))])
    remark = "ROI 1 (Organ): equal to the label of that name in another object"
    assert sorted(converted.labels("converted")) == ["", remark]
    assert not converted.labels("quarantined")


def test_another_version_of_a_label_is_refused_and_the_rest_of_its_object_kept(tmp_path: Path) -> None:
    converted = two_sets(tmp_path, [contour(box(4.0, 2.0))])
    label = converted.label("1.2.1")
    assert label is not None
    assert np.unique(label[4]).tolist() == [0, 2]
    assert int((label[2] == 1).sum()) == 5 * 5
    (reason,) = converted.labels("quarantined")
    assert reason.startswith(
        "ROI 1 (Organ): already labelled by another object of the same image, and differs: 15 of 25"
    )


@pytest.mark.parametrize(("overlap", "value"), [("last", 2), ("first", 1), ("listed", 1), ("channels", 2)])
def test_labels_of_two_objects_overlap_by_the_order_of_their_series_numbers(
    tmp_path: Path, overlap: str, value: int
) -> None:
    series = ct("1.2.1")
    series.write(tmp_path / "in/a")
    images = series.datasets()
    # Written in the other order, so that neither file names nor UIDs decide.
    for number, name in ((7, "Second"), (3, "First")):
        rois = {name: [contour(box(4.0, number / 4), images[2])]}
        save(structure_set(rois, images, SeriesNumber=number), tmp_path / f"in/{10 - number}")
    converted = Converted(tmp_path, overlap=overlap, labels={"Second": 2, "First": 1})
    label = converted.label("1.2.1")
    assert label is not None
    # Both have rows 1 to 5; the first columns 2 to 5, the second 3 to 5.
    assert np.unique(label[2, 1:6, 3:6]).tolist() == [value]
    (reason,) = [text for text in converted.labels("converted") if text]
    assert reason.startswith("15 voxels lie in several segments")


def test_two_label_objects_of_one_sop_uid_are_two(tmp_path: Path) -> None:
    series = ct("1.2.1")
    series.write(tmp_path / "in/a")
    images = series.datasets()
    for k, height in (("1", 4.0), ("2", 800.0)):
        dataset = structure_set({f"Organ{k}": [contour(box(height), images[2])]}, images)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = images[0].SOPInstanceUID[:-2] + ".9"
        save(dataset, tmp_path / f"in/rt{k}")
    converted = Converted(tmp_path)
    assert converted.labels("converted") == [""]
    assert converted.labels("quarantined") == ["ROI 1 (Organ2): (3006,0050): all contours lie outside of the image"]


def test_thin_slices_of_a_segmentation_far_apart_leave_no_gap_on_another_grid(tmp_path: Path) -> None:
    fine = Series(random_values((16, 9, 7)), uid="1.2.1", frame=ONE_FRAME, step=1.0, origin=(0.4, 0, 0))
    fine.write(tmp_path / "in/a")
    coarse = Series(random_values(), uid="1.2.1", frame=ONE_FRAME, step=3.0)
    mask = np.zeros((*SHAPE, 1), np.uint8)
    mask[1:5, 2:6, 2:5] = 1
    dataset = seg(coarse, mask, ["Organ"])
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SliceThickness = 1.0
    if "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices
    save(dataset, tmp_path / "in/seg")
    label = Converted(tmp_path).label("1.2.1")
    assert label is not None
    assert np.flatnonzero(label.any(axis=(1, 2))).tolist() == list(range(2, 14))


def test_rois_that_name_no_frame_of_reference_of_several_are_refused(tmp_path: Path) -> None:
    scan, image = ct("1.2.1"), Series(random_values(), uid="1.2.2", frame="1.2.88", changes={"Modality": "MR"})
    for series in (scan, image):
        series.write(tmp_path / "in" / series.uid)
    rois = {"Bone": [contour(box(2.0))], "Nerve": [contour(box(6.0), image.datasets()[3])]}
    dataset = structure_set(rois, [*scan.datasets(), *image.datasets()])
    for roi in dataset.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID
    save(dataset, tmp_path / "in/rt")
    converted = Converted(tmp_path)
    assert converted.label("1.2.1") is None
    assert converted.label("1.2.2") is not None
    assert converted.labels("quarantined") == [
        "ROI 1 (Bone): (0020,0052): refers to images of 2 frames of reference, and does not say in which it is drawn"
    ]


def test_a_label_of_several_volumes_says_so(tmp_path: Path) -> None:
    scan, second = ct("1.2.1"), ct("1.2.2")
    for series in (scan, second):
        series.write(tmp_path / "in" / series.uid)
    images = [*scan.datasets(), *second.datasets()]
    save(structure_set({"Organ": [contour(box(4.0))]}, images), tmp_path / "in/rt")
    converted = Converted(tmp_path)
    assert converted.labels("converted") == ["it refers to 2 volumes, and labels each"] * 2


@pytest.mark.parametrize("refers", [True, False])
def test_a_lone_scout_within_the_series_owns_no_label(tmp_path: Path, refers: bool) -> None:
    images = ct("1.2.1").datasets()
    scout = Series(
        random_values((1, 9, 7)), orientation=(1, 0, 0, 0, 0, -1), uid="1.2.1", frame=ONE_FRAME, origin=(0, 5, 9)
    ).datasets()[0]
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = images[0].SOPInstanceUID[:-2] + ".9"
    for k, image in enumerate([*images, scout]):
        save(image, tmp_path / f"in/{k}")
    rois = {"Organ": [contour(box(4.0))]}
    save(structure_set(rois, [*images, scout] if refers else (), [ONE_FRAME]), tmp_path / "in/rt")
    converted = Converted(tmp_path)
    assert converted.label("1.2.1") is not None
    assert not converted.labels("skipped") + converted.labels("quarantined")


def test_frames_of_a_concatenation_are_counted_through_all_of_its_objects() -> None:
    from voxflow.dicom import SeriesPart
    from voxflow.dicom.headers import DicomHeader
    from voxflow.dicom.references import Source, _has_frames

    def header(uid: str, count: int) -> DicomHeader:
        fields: dict[str, Any] = dict.fromkeys(DicomHeader.__dataclass_fields__, "")
        return DicomHeader(**fields | {"sop_uid": uid, "frame_count": count})

    # Two objects of four frames; the second time point is the last three of all eight.
    part = SeriesPart("volume", (header("1", 4), header("2", 4)), frames=(5, 6, 7))
    assert not _has_frames(part, Source("1", frozenset({1, 2, 3, 4})))
    assert not _has_frames(part, Source("2", frozenset({1})))
    assert _has_frames(part, Source("2", frozenset({2})))
    assert _has_frames(part, Source("2"))
