"""NIfTI and its kin pass through checks."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.images import list_files
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

GEOMETRY = Geometry.from_parts((5, 6, 7), (1, 1.5, 2), (-3, 4, 9))


def image(seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).normal(size=(5, 6, 7)).astype(np.float32), GEOMETRY)


def label(values: int = 3) -> Volume:
    return Volume(np.random.default_rng(1).integers(0, values, (5, 6, 7)).astype(np.float32), GEOMETRY)


def convert(folder: Path, **options: object) -> list[dict[str, str]]:
    convert_folder(folder / "in", folder / "out", ConvertOptions.model_validate({"pseudonym_key": "k"} | options))
    return read_table(folder / "out/cases.csv")


def write_pair(folder: Path, image_name: str, label_name: str, value: int = 0) -> None:
    """An image whose first voxel is ``value``, and a label whose first voxel is ``value``, too."""
    for name in (image_name, label_name):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        array = np.zeros((5, 6, 7), np.uint8)
        array.flat[0] = value
        write_volume(folder / name.lower(), Volume(array, GEOMETRY))
        (folder / name.lower()).rename(folder / name)


def test_voxels_and_geometry_pass_unchanged(tmp_path: Path) -> None:
    write_volume(tmp_path / "in/images/a.nii.gz", image())
    write_volume(tmp_path / "in/labels/a.nii.gz", label())
    row = convert(tmp_path, labels={"one": 1, "two": 2})[0]
    out = read_volume(tmp_path / "out" / row["image"])
    mask = read_volume(tmp_path / "out" / row["label"])
    assert np.array_equal(out.array, image().array)
    assert out.geometry.is_close(GEOMETRY, 1e-4)
    assert mask.array.dtype == np.uint8
    assert np.array_equal(mask.array, label().array)
    assert json.loads((tmp_path / "out/labels.json").read_text()) == {"0": "background", "1": "one", "2": "two"}


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".mhd", ".nrrd"])
def test_every_format_is_read_and_written(tmp_path: Path, suffix: str) -> None:
    write_volume(tmp_path / f"in/images/a{suffix}", image())
    write_volume(tmp_path / f"in/labels/a{suffix}", label())
    row = convert(tmp_path, volume_format=suffix)[0]
    for column, expected in (("image", image()), ("label", label())):
        assert row[column].endswith(suffix)
        theirs = sitk.ReadImage(str(tmp_path / "out" / row[column]))
        assert np.array_equal(sitk.GetArrayFromImage(theirs).T, expected.array)
        assert theirs.GetOrigin() == pytest.approx((-3, 4, 9), abs=1e-4)


def test_names_stay_only_where_that_is_asked_for(tmp_path: Path) -> None:
    write_volume(tmp_path / "in/images/a_01.nii.gz", image())
    assert "a_01" not in convert(tmp_path)[0]["case"]
    assert convert(tmp_path, keep_names=True)[0]["case"] == "a_01"


def test_a_pattern_groups_files_by_patient(tmp_path: Path) -> None:
    for name in ("p1-a", "p1-b", "p2-a"):
        write_volume(tmp_path / f"in/{name}.nii.gz", image())
    patients = [row["patient"] for row in convert(tmp_path, patient_pattern="^([^-]+)-")]
    assert patients[0] == patients[1] != patients[2]


def test_what_does_not_fit_is_quarantined_with_values(tmp_path: Path) -> None:
    moved = Geometry.from_parts((5, 6, 7), (1, 1.5, 2), (-3, 4, 10))
    for name in ("good", "moved", "fraction", "value"):
        write_volume(tmp_path / f"in/images/{name}.nii.gz", image())
    write_volume(tmp_path / "in/labels/good.nii.gz", label(2))
    write_volume(tmp_path / "in/labels/moved.nii.gz", Volume(label().array, moved))
    write_volume(tmp_path / "in/labels/fraction.nii.gz", Volume(label().array / 2, GEOMETRY))
    write_volume(tmp_path / "in/labels/value.nii.gz", label(4))
    write_volume(tmp_path / "in/labels/alone.nii.gz", label())
    (tmp_path / "in/images/broken.nii.gz").write_bytes(b"nothing")
    options = ConvertOptions(labels={"organ": 1}, pseudonym_key="k", workers=1)
    summary = convert_folder(tmp_path / "in", tmp_path / "out", options)
    reasons = " ".join(summary.reasons)
    assert (summary.cases, summary.quarantined) == (1, 5)
    assert "labels/moved.nii.gz: its grid is not the image's" in reasons
    assert "origin -3.00 4.00 9.00 and -3.00 4.00 10.00" in reasons
    assert "label values are no whole numbers from 0: [0.0, 0.5, 1.0]" in reasons
    assert "label values [2, 3] have no name" in reasons
    assert "a label without an image of the same name" in reasons
    assert "unreadable image" in reasons


@pytest.mark.parametrize(
    ("image_name", "label_name"),
    [
        ("imagesTr/0_image.nii.gz", "labelsTr/0_image.nii.gz"),
        ("images/0_seg.nii.gz", "labels/0_seg.nii.gz"),
        ("images/a.nii.gz", "images/a_label.nii.gz"),
        ("x/PET_image.nii.gz", "x/PET_mask.nii.gz"),
        ("case1/ct.nii.gz", "case1/seg.nii.gz"),
        ("image.nii.gz", "label.nii.gz"),
        ("volume-0.nii", "segmentation-0.nii"),
        ("data/scans/a.nii.gz", "data/segmentations/a.nii.gz"),
        ("segmentation/images/a.nii.gz", "segmentation/labels/a.nii.gz"),
        ("imagesTr/liver_0000.nii.gz", "labelsTr/liver.nii.gz"),
        ("images/M\u00fcller.NII.GZ", "labels/Mu\u0308ller.nii.gz"),
        ("images/A.nii.gz", "labels/a.mha"),
        ("imagesVa/a.nii.gz", "labelsVa/a.nii.gz"),
        ("images_test/a.nii.gz", "masks_test/a.nii.gz"),
        ("img/img0001.nii.gz", "label/label0001.nii.gz"),
        ("case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"),
        ("images/O'Brien, 50% #2 (1).nii.gz", "labels/O'Brien, 50% #2 (1).nii.gz"),
        ("images/-rf\nx.nii.gz", "labels/-rf\nx.nii.gz"),
        (f"images/{'x' * 200}.nii.gz", f"labels/{'x' * 200}.nii.gz"),
        ("images/case_mask_1.nii.gz", "labels/case_mask_1.nii.gz"),
    ],
)
@pytest.mark.parametrize("keep_names", [False, True])
def test_a_label_goes_to_the_image_of_its_name(
    tmp_path: Path, image_name: str, label_name: str, keep_names: bool
) -> None:
    write_pair(tmp_path / "in", image_name, label_name)
    (row,) = convert(tmp_path, keep_names=keep_names)
    assert (tmp_path / "out" / row["image"]).is_file()
    assert (tmp_path / "out" / row["label"]).is_file()


def test_the_same_number_in_another_part_is_another_patient(tmp_path: Path) -> None:
    write_pair(tmp_path / "in", "imagesTr/001.nii.gz", "labelsTr/001.nii.gz", value=1)
    write_pair(tmp_path / "in", "imagesTs/001.nii.gz", "labelsTs/001.nii.gz", value=2)
    rows = convert(tmp_path)
    assert len({row["patient"] for row in rows}) == 2
    assert {row["source"][:8]: row["subset"] for row in rows} == {"imagesTr": "training", "imagesTs": "testing"}
    for row in rows:
        image, mask = (read_volume(tmp_path / "out" / row[column]).array.flat[0] for column in ("image", "label"))
        assert image == mask == (1 if row["source"].startswith("imagesTr") else 2)


def test_a_test_part_without_labels_is_no_part(tmp_path: Path) -> None:
    write_pair(tmp_path / "in", "imagesTr/001.nii.gz", "labelsTr/001.nii.gz", value=1)
    write_pair(tmp_path / "in", "imagesTs/002.nii.gz", "labelsTs/002.nii.gz", value=2)
    (tmp_path / "in" / "labelsTs" / "002.nii.gz").unlink()
    assert not any("subset" in row for row in convert(tmp_path))


def test_names_that_meet_as_case_ids_are_kept_apart(tmp_path: Path) -> None:
    names = ("\u60a3\u80051", "\u75c5\u4eba1", "pat 1", "pat_1", "A", "a", "M\u00fcller", "M\u00f6ller")
    for value, name in enumerate(names):
        write_pair(tmp_path / "in", f"images/{name}.nii.gz", f"labels/{name}.nii.gz", value)
    rows = convert(tmp_path, keep_names=True)
    assert len({row["case"].lower() for row in rows}) == len(names)
    assert {"pat_1", "A"} < {row["case"] for row in rows}
    for row in rows:
        value = names.index(row["source"].removeprefix("images/").removesuffix(".nii.gz"))
        assert read_volume(tmp_path / "out" / row["image"]).array.flat[0] == value
        assert read_volume(tmp_path / "out" / row["label"]).array.flat[0] == value


def test_an_ambiguous_pair_stops_no_other_and_every_file_is_named(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a.mha", "a_image.nii.gz", "b.nii.gz", "c_image.nii.gz", "c.nii.gz"):
        write_volume(tmp_path / "in" / name, image())
    for name in ("a_label.nii.gz", "b_label.nii.gz", "c_label.nii.gz", "label_of_nothing.nii.gz"):
        write_volume(tmp_path / "in" / name, label())
    cases = convert(tmp_path)
    rows = {row["source"]: row for row in read_table(tmp_path / "out/conversion.csv")}
    assert {row["source"]: bool(row["label"]) for row in cases} == {
        "a_image.nii.gz": False,
        "b.nii.gz": True,
        "c.nii.gz": False,
        "c_image.nii.gz": False,
    }
    assert "it may be the label of 2 images: c.nii.gz, c_image.nii.gz" in rows["c_label.nii.gz"]["reason"]
    assert "2 files are the image of one name: a.mha, a.nii.gz" in rows["a.mha"]["reason"]
    assert "a label without an image" in rows["label_of_nothing.nii.gz"]["reason"]
    assert sum(int(row["files"]) for row in rows.values()) == 10


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    write_pair(tmp_path / "disk", "images/a.nii.gz", "labels/a.nii.gz")
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/images").symlink_to(tmp_path / "disk/images")
    (tmp_path / "in/labels").symlink_to(tmp_path / "disk/labels")
    (tmp_path / "in/once_more").symlink_to(tmp_path / "disk")
    (tmp_path / "in/deep/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/above").symlink_to(tmp_path)
    (tmp_path / "in/self").symlink_to("self")
    files = [file.relative_to(tmp_path / "in").as_posix() for file in list_files(tmp_path / "in")]
    assert sorted(files) == ["images/a.nii.gz", "labels/a.nii.gz", "self"]
    assert [bool(row["label"]) for row in convert(tmp_path)] == [True]


def test_every_file_that_is_no_image_is_in_the_table(tmp_path: Path) -> None:
    write_volume(tmp_path / "in/images/a.mhd", image())
    for name in ("notes.txt", "more.txt", "b.hdr", "c.npy", "d.zip", "e.dcm", "f.dcm", "strange.xyz", "lone.raw"):
        (tmp_path / "in" / name).write_bytes(b"" if name == "f.dcm" else b"text")
    (tmp_path / "in/images/.hidden.nii.gz").write_bytes(b"")
    (tmp_path / "in/gone").symlink_to("nowhere")
    convert(tmp_path)
    rows = read_table(tmp_path / "out/conversion.csv")
    reasons = {row["source"]: (row["verdict"], row["reason"]) for row in rows}
    assert reasons.pop("images/a.mhd") == ("converted", "")
    assert reasons["more.txt, notes.txt"] == ("skipped", "no image (.txt)")
    assert reasons["b.hdr"] == ("skipped", "an image or an archive that is not read (.hdr): save it as NIfTI")
    assert reasons["e.dcm"] == ("quarantined", "no DICOM, although its name ends in .dcm")
    assert reasons["f.dcm"] == ("quarantined", "an empty file")
    assert reasons["gone"] == ("quarantined", "a link to nothing")
    assert reasons["images/.hidden.nii.gz"] == ("skipped", "a hidden file: its name begins with a dot; rename it")
    assert len(reasons) == 10


def test_a_name_that_is_no_utf8_is_listed(tmp_path: Path) -> None:
    write_volume(tmp_path / "in/a.nii.gz", image())
    raw_name = os.fsencode(tmp_path / "in") + b"/M\xfcller.nii.gz"
    with open(raw_name, "wb") as stream:  # noqa: PTH123
        stream.write((tmp_path / "in/a.nii.gz").read_bytes())
    convert(tmp_path, keep_names=True)
    assert "M\\udcfcller.nii.gz" in {row["source"] for row in read_table(tmp_path / "out/conversion.csv")}


def test_a_qform_that_contradicts_the_sform_and_a_turned_label_are_told(tmp_path: Path) -> None:
    header = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.float32), np.eye(4))
    header.set_sform(np.eye(4), 1)
    header.set_qform(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 30, 1)
    array = np.zeros((5, 6, 7), np.uint8)
    array[0] = 1
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 4
    (tmp_path / "in").mkdir()
    nibabel.save(header, tmp_path / "in/a_image.nii.gz")
    nibabel.save(nibabel.Nifti1Image(array, flip), tmp_path / "in/a_label.nii.gz")
    (case,) = convert(tmp_path)
    (row,) = read_table(tmp_path / "out/conversion.csv")
    assert "place it up to 30.00 mm apart; the sform is taken" in row["reason"]
    assert "label: its axes run along" in row["reason"]
    mask = np.asanyarray(nibabel.load(tmp_path / "out" / case["label"]).dataobj)
    assert np.array_equal(mask, array[::-1])


def test_where_nothing_can_be_converted_all_reasons_are_told(tmp_path: Path) -> None:
    write_volume(tmp_path / "in/a.nii.gz", image())
    write_volume(tmp_path / "in/a.mha", image())
    with pytest.raises(DataError, match=r"2 files are the image of one name: a\.mha, a\.nii\.gz"):
        convert(tmp_path)


def write_pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10)).save(folder / name)


def test_findings_name_images_as_people_write_paths(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", "x/a.png", "x/M\u00fcller.png", "y/a.png", "y/b.png")
    text = "file,patient_id,mass\r\nx\\a.png,p,1\r\n./y/a.png,p,0\r\nb.png,p,1\r\nx/Mu\u0308ller.png,q,0\r\n"
    (tmp_path / "in/f.csv").write_bytes(text.encode("utf-8-sig"))
    cases = {row["source"]: row for row in convert(tmp_path, findings="f.csv")}
    assert {source: row["finding:mass"] for source, row in cases.items()} == {
        "x/a.png": "1",
        "x/M\u00fcller.png": "0",
        "y/a.png": "0",
        "y/b.png": "1",
    }
    assert len({row["patient"] for row in cases.values()}) == 2


def test_a_file_name_of_two_images_gives_its_findings_to_neither(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", "x/a.png", "y/a.png", "y/b.png")
    (tmp_path / "in/f.csv").write_text("file,mass\na.png,1\nb.png,0\n")
    assert [row["source"] for row in convert(tmp_path, findings="f.csv")] == ["y/b.png"]
    rows = {row["source"]: row["reason"] for row in read_table(tmp_path / "out/conversion.csv")}
    assert "which other images have, too; write the path below the source" in rows["x/a.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".tif", ".TIFF", ".bmp", ".png"])
def test_grey_pictures_of_any_format_become_png(tmp_path: Path, suffix: str) -> None:
    write_pictures(tmp_path / "in", f"a{suffix}")
    (row,) = convert(tmp_path)
    with Image.open(tmp_path / "in" / row["source"]) as theirs, Image.open(tmp_path / "out" / row["image"]) as mine:
        assert np.array_equal(np.asarray(theirs), np.asarray(mine))


def test_pictures_whose_grey_values_can_not_be_trusted_are_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", "good.png", "cut.png")
    grey = np.arange(60, dtype=np.uint8).reshape(6, 10)
    (tmp_path / "in/cut.png").write_bytes((tmp_path / "in/cut.png").read_bytes()[:60])
    colours = np.stack([grey, grey, 255 - grey], axis=2)
    Image.fromarray(colours).save(tmp_path / "in/colour.jpg")
    Image.fromarray(np.dstack([grey, grey, grey, grey])).save(tmp_path / "in/clear.png")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "in/float.tif")
    Image.fromarray(grey).save(tmp_path / "in/pages.tif", save_all=True, append_images=[Image.fromarray(grey)])
    convert(tmp_path)
    reasons = {row["source"]: row["reason"] for row in read_table(tmp_path / "out/conversion.csv")}
    assert reasons == {
        "good.png": "",
        "cut.png": "unreadable image: damaged, cut off, or no picture",
        "colour.jpg": "a picture in colour; save it as a grey PNG of 8 or 16 bits",
        "clear.png": "a picture that is transparent in part; save it as a grey PNG of 8 or 16 bits",
        "float.tif": "a picture of F values; save it as a grey PNG of 8 or 16 bits",
        "pages.tif": "a picture of 2 pages; save each as a file, or the stack as NIfTI",
    }


def test_the_voxels_beside_a_header_belong_to_its_case(tmp_path: Path) -> None:
    write_volume(tmp_path / "in/a.mhd", image())
    convert(tmp_path)
    (row,) = read_table(tmp_path / "out/conversion.csv")
    assert (row["verdict"], row["files"]) == ("converted", "2")
