"""Rules of which files belong together, and of files that are no DICOM."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import nibabel
import numpy as np
from PIL import Image

from tests.conversion_rules.rule import Rule
from tests.dicom.objects import FRAME, Series, random_values, rtstruct, save
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

GRID = Geometry.from_parts((5, 6, 7), (1, 1, 1))
TRIANGLE = np.array([[1.0, 1, 2], [5, 1, 2], [3, 8, 2]])


def write_image(path: Path, seed: int = 0) -> None:
    write_volume(path, Volume(np.random.default_rng(seed).normal(size=GRID.size).astype(np.float32), GRID))


def write_label(path: Path, grid: Geometry = GRID, value: float = 1) -> None:
    write_volume(path, Volume(np.full(grid.size, value, np.float32), grid))


def write_picture(path: Path, *, colour: bool = False, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.repeat(np.arange(60, dtype=np.uint8).reshape(6, 10, 1), 3, axis=2)
    pixels[..., 2] += 90 * colour
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def write_files(always: Sequence[str], inside: Sequence[str], outside: Sequence[str]) -> Callable[[Path, bool], None]:
    """Write images and labels by their names: what has ``seg``, ``mask`` or ``label`` in it, by its end, is a label."""

    def write(folder: Path, is_inside: bool) -> None:
        for seed, name in enumerate([*always, *(inside if is_inside else outside)]):
            is_label = name.startswith("labels") or name.split(".")[0].endswith(("seg", "mask"))
            if is_label:
                write_label(folder / name)
            else:
                write_image(folder / name, seed)

    return write


def write_pair(folder: Path, is_inside: bool) -> None:
    write_image(folder / "images/a.nii.gz")
    write_label(
        folder / "labels/a.nii.gz", Geometry.from_parts(GRID.size, (1, 1, 1), (0.04 if is_inside else 0.06, 0, 0))
    )


def write_fraction(folder: Path, is_inside: bool) -> None:
    write_image(folder / "images/a.nii.gz")
    write_label(folder / "labels/a.nii.gz", value=1.0009 if is_inside else 0.998)


def write_spoilt(folder: Path, is_inside: bool) -> None:
    for name, value in (("a", 1.0), ("b", 1.0 if is_inside else np.nan)):
        write_volume(folder / f"{name}.nii.gz", Volume(np.full(GRID.size, value, np.float32), GRID))


def write_channels(folder: Path, is_inside: bool) -> None:
    write_image(folder / "a.nii.gz")
    array = np.ones((*GRID.size, 1 if is_inside else 2), np.float32)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / "b.nii.gz")


def write_cut(folder: Path, is_inside: bool) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(folder / name)
    file = (folder / "b.nii.gz").rename(folder / "b.NII.GZ")
    file.write_bytes(file.read_bytes()[: None if is_inside else -5])


def write_linked_file(folder: Path, is_inside: bool) -> None:
    write_image(folder / "images/a.nii.gz")
    write_image(folder / "store/b.nii.gz", 1)
    if not is_inside:
        (folder / "images/b.nii.gz").symlink_to(folder / "store/b.nii.gz")


def write_linked_folder(folder: Path, is_inside: bool) -> None:
    write_image(folder / "images/a.nii.gz")
    write_label(folder.parent / "disk/a.nii.gz")
    (folder / "labels").symlink_to(folder.parent / ("disk" if is_inside else "gone"))


def write_illustration(folder: Path, is_inside: bool) -> None:
    write_picture(folder / "a.png")
    (folder / "findings.csv").write_text("file,mass\na.png,1\n" if is_inside else "file,mass\nother.png,1\n")
    write_image(folder / "b.nii.gz")


def write_coloured(folder: Path, is_inside: bool) -> None:
    write_picture(folder / "a.png", colour=not is_inside)


def write_turned(folder: Path, is_inside: bool) -> None:
    write_picture(folder / "a.jpg", orientation=1 if is_inside else 6)


def write_series(folder: Path, uid: str) -> None:
    Series(random_values(), uid=uid, frame=f"{FRAME}.{uid}").write(folder)


def write_label_of_series(folder: Path, is_inside: bool) -> None:
    write_series(folder / "images/case1/a", "1.2.1")
    if not is_inside:
        write_series(folder / "images/case1/b", "1.2.2")
    write_turned_label(folder / "labels/case1.nii.gz")


def write_named_and_numbered(folder: Path, is_inside: bool) -> None:
    write_series(folder / "images/case1", "1.2.1")
    if not is_inside:
        save(rtstruct([TRIANGLE], frame=f"{FRAME}.1.2.1"), folder / "rt")
        write_series(folder / "images/case2", "1.2.2")
    write_turned_label(folder / f"labels/case{1 if is_inside else 2}.nii.gz")


def write_turned_label(path: Path) -> None:
    """Write a label of the first column of :func:`write_series`, its first axis reversed as in most NIfTI files."""
    slices, rows, columns = random_values().shape
    grid = Geometry.from_parts((columns, rows, slices), (1, 1.5, 2), (columns - 1, 0, 0), [-1, 0, 0, 0, 1, 0, 0, 0, 1])
    label = np.zeros(grid.size, np.uint8)
    label[-1] = 1
    write_volume(path, Volume(label, grid))


def check_turned(inside: Path, outside: Path) -> None:
    (label,) = (inside / "labels").iterdir()
    assert set(np.argwhere(read_volume(label).array)[:, 0]) == {0}


def write_axes_of_label(folder: Path, is_inside: bool) -> None:
    write_image(folder / "images/a.nii.gz")
    last = (GRID.size[0] - 1 if is_inside else 0, 0, 0)
    turned = Geometry.from_parts(GRID.size, (1, 1, 1), last, (-1, 0, 0, 0, 1, 0, 0, 0, 1))
    array = np.zeros(GRID.size, np.float32)
    array[0] = 1
    write_volume(folder / "labels/a.nii.gz", Volume(array, turned))


def check_axes_of_label(inside: Path, _outside: Path) -> None:
    (label,) = (inside / "labels").iterdir()
    assert read_volume(label).array[:, 0, 0].tolist() == [0, 0, 0, 0, 1]


def write_header(offset: int, form: str, inside: Sequence[float], outside: Sequence[float]) -> Callable[..., None]:
    """Write a sound image, and one beside it whose header holds these numbers from a byte on."""

    def write(folder: Path, is_inside: bool) -> None:
        for name in ("a.nii", "b.nii"):
            write_image(folder / name)
        data = bytearray((folder / "b.nii").read_bytes())
        struct.pack_into(f"<{form}", data, offset, *(inside if is_inside else outside))
        (folder / "b.nii").write_bytes(data)

    return write


RULES = [
    Rule("one grid for image and label", write_pair, "grid", options={"labels": {"one": 1}}),
    Rule("numbers in an image", write_spoilt, "NaN or infinite", inside=("converted", "converted")),
    Rule("one value a voxel", write_channels, "expected a 3D image", inside=("converted", "converted")),
    Rule("whole file", write_cut, "damaged, or it ends early", inside=("converted", "converted")),
    Rule("whole values in a label", write_fraction, "label values are no whole numbers from 0: [0.998"),
    Rule(
        "label of an image file",
        write_files(["case1/image.nii.gz", "b.nii.gz"], ["case1/mask.nii.gz"], ["case2/mask.nii.gz"]),
        "a label without an image of the same name",
        inside=("converted", "converted"),
    ),
    Rule(
        "one image of a label",
        write_files(["p_ct.nii.gz", "p_seg.nii.gz"], ["q_pet.nii.gz"], ["p_pet.nii.gz"]),
        "it may be the label of 2 images: p_ct.nii.gz, p_pet.nii.gz",
        inside=("converted", "converted"),
    ),
    Rule(
        "one label of an image",
        write_files(["a.nii.gz", "a_seg.nii.gz", "b.nii.gz"], [], ["a_mask.nii.gz"]),
        "2 files are the label of a.nii.gz: a_mask.nii.gz, a_seg.nii.gz",
        inside=("converted", "converted"),
    ),
    Rule(
        "one file of a name",
        write_files(["x/a.nii.gz"], ["X/a.nii.gz"], ["x/a.mha", "b.nii.gz"]),
        "2 files are the image of one name: x/a.mha, x/a.nii.gz",
        inside=("converted", "converted"),
        options={"keep_names": True},
    ),
    Rule(
        "folder before word",
        write_files(["images/1_seg.nii.gz", "images/2.nii.gz"], ["labels/1_seg.nii.gz"], []),
        "its folder says image and its name says label",
        inside=("converted", "converted"),
    ),
    Rule(
        "one name of a file",
        write_linked_file,
        "the same file as images/b.nii.gz, by a link",
        "skipped",
        inside=("converted", "converted"),
    ),
    Rule("link to a folder", write_linked_folder, "a link to nothing"),
    Rule(
        "picture beside volumes",
        write_illustration,
        "a picture beside volumes or DICOM",
        "skipped",
        inside=("converted", "converted"),
        options={"findings": "findings.csv"},
    ),
    Rule("grey picture", write_coloured, "a picture in colour"),
    Rule("upright picture", write_turned, "its Exif data turn it (Orientation 6)"),
    Rule(
        "label file of a DICOM series",
        write_label_of_series,
        "it may be the label of 2 DICOM series",
        inside=("converted", "converted"),
        check=check_turned,
    ),
    Rule(
        "names of a label's values",
        write_named_and_numbered,
        "label files hold numbers, and other labels here have names",
        inside=("converted", "converted"),
    ),
    Rule(
        "axes of a label",
        write_axes_of_label,
        "its grid is not the image's, they lie on different grids",
        inside_reason="label: its axes run along RPS, the image's along LPS; turned to the image's",
        check=check_axes_of_label,
    ),
    # The x of the sform's offset, in voxels of 1 mm.
    Rule(
        "one place of a NIfTI file",
        write_header(292, "f", [0.4], [0.6]),
        "its qform (code 1) and sform (code 1) place it up to 0.60 mm apart; the sform is taken",
        "converted",
        inside=("converted", "converted"),
    ),
    Rule(
        "right angles of an affine",
        write_header(284, "f", [np.sin(np.radians(0.9))], [np.sin(np.radians(1.2))]),
        "the axes of its affine are 1.2 degrees off a right angle, at most 1 are taken",
        inside=("converted", "converted"),
    ),
    # Of a qform alone: its code, the sform's, and the quaternion's b, c and d.
    Rule(
        "rotation of a qform",
        write_header(252, "2h3f", [1, 0, 0.6, 0.8, 0], [1, 0, 0.6, 0.81, 0]),
        "its quaternion (0.6, 0.81, 0) is no rotation",
        inside=("converted", "converted"),
    ),
    Rule(
        "scaling of a NIfTI file",
        write_header(112, "2f", [0, np.nan], [2, np.nan]),
        "its values are scaled by 2 and moved by nan",
        inside=("converted", "converted"),
    ),
    Rule(
        "begin of a NIfTI file's voxels",
        write_header(108, "f", [352], [0]),
        "its header claims that the voxels begin at byte 0",
        inside=("converted", "converted"),
    ),
    Rule(
        "length of a NIfTI file",
        write_header(42, "h", [GRID.size[0]], [GRID.size[0] + 1]),
        "damaged, or it ends early: 1008 bytes of voxels are claimed",
        inside=("converted", "converted"),
    ),
]
