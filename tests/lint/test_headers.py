"""Headers say what SimpleITK and Pillow say, and broken ones are told."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from voxflow.errors import DataError
from voxflow.lint.headers import read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("components", [1, 3])
def test_a_volume_has_the_size_and_spacing_that_simpleitk_reads(tmp_path: Path, suffix: str, components: int) -> None:
    shape = (5, 7, 9, components) if components > 1 else (5, 7, 9)
    image = sitk.GetImageFromArray(np.zeros(shape, np.int16), isVector=components > 1)
    image.SetSpacing((0.5, 1.25, 3.0))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path))
    header = read_header(path)
    assert header
    assert header.size == image.GetSize()
    assert header.spacing == pytest.approx(image.GetSpacing())
    assert header.channels == components
    assert header.missing == 0


def test_a_series_of_volumes_counts_as_channels(tmp_path: Path) -> None:
    path = tmp_path / "four.nii.gz"
    sitk.WriteImage(sitk.Image([4, 5, 6, 2], sitk.sitkFloat32), str(path))
    header = read_header(path)
    assert header
    assert (header.size, header.channels, header.bits) == ((4, 5, 6), 2, 32)


@pytest.mark.parametrize(
    ("mode", "bits", "colour"), [("L", 8, "grey"), ("I;16", 16, "grey"), ("RGB", 8, "RGB"), ("P", 8, "palette")]
)
def test_a_png_has_the_depth_that_pillow_wrote(tmp_path: Path, mode: str, bits: int, colour: str) -> None:
    path = tmp_path / "image.png"
    image = Image.new(mode, (40, 30))
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)  # fewer colours would need fewer bits
    image.save(path)
    header = read_header(path)
    assert header
    assert (header.size, header.bits, header.colour) == ((30, 40), bits, colour)


def test_a_file_that_is_cut_off_is_told_by_its_length(tmp_path: Path) -> None:
    path = tmp_path / "cut.nii"
    sitk.WriteImage(sitk.Image([10, 10, 10], sitk.sitkInt16), str(path))
    path.write_bytes(path.read_bytes()[:-100])
    header = read_header(path)
    assert header
    assert header.missing == 100


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd", "a.png"])
@pytest.mark.parametrize(
    "content",
    [b"x", b"NDims = 3\nDimSize = a b c\n", bytes(400), gzip.compress(b"x" * 400)],
    ids=["a letter", "text", "zeros", "gzip"],
)
def test_what_is_no_image_is_an_error_of_the_data(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match="unreadable header"):
        read_header(path)


def test_real_volumes_have_the_size_that_simpleitk_reads(real_data: Callable[[str], Path]) -> None:
    paths = sorted(real_data("hippocampus").rglob("*.nii.gz"))[::20]
    assert paths
    for path in paths:
        header = read_header(path)
        assert header
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        assert header.size == reader.GetSize()
        assert header.spacing == pytest.approx(reader.GetSpacing())
