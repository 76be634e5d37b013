"""What stored values measure: bits, tables, rescale, units and padding, at the top level and in functional groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels.processing import apply_modality_lut, apply_rescale
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, generate_uid

from tests.dicom.objects import FRAME, IDENTITY, Series, item, new, random_values, save
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.dicom.pixels import decode_stored_values
from voxflow.errors import DataError
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

ALLOCATED = {8: "uint8", 16: "<u2", 32: "<u4"}
OPTIONS = ConvertOptions(pseudonym_key="k", workers=1)


def convert(folder: Path) -> tuple[NDArray[Any], dict[str, str]]:
    """The volume as (slices, rows, columns), and its row in the table."""
    convert_folder(folder / "in", folder / "out", OPTIONS)
    row = read_table(folder / "out/conversion.csv")[0]
    return read_volume(next((folder / "out/images").iterdir())).array.transpose(2, 1, 0), row


def write(folder: Path, change: Callable[[Dataset, int], None], values: NDArray[Any] | None = None) -> list[Path]:
    datasets = Series(random_values() if values is None else values).datasets()
    for k, dataset in enumerate(datasets):
        change(dataset, k)
    return [save(dataset, folder / f"in/{k}") for k, dataset in enumerate(datasets)]


def modality_lut(dataset: Dataset, _: int = 0, lut_type: str = "HU") -> None:
    table = np.arange(2048)[::-1].astype("<u2") * 3
    dataset.ModalityLUTSequence = [item(LUTDescriptor=[2048, 0, 16], ModalityLUTType=lut_type, LUTData=table.tobytes())]
    dataset.ModalityLUTSequence[0]["LUTDescriptor"].VR = "US"
    dataset.ModalityLUTSequence[0]["LUTData"].VR = "OW"


@pytest.mark.parametrize(("lut_type", "units"), [("HU", "HU"), ("OD", "OD"), ("US", "")])
def test_a_modality_table_is_applied_as_pydicom_does(tmp_path: Path, lut_type: str, units: str) -> None:
    paths = write(tmp_path, lambda d, k: modality_lut(d, k, lut_type), random_values().clip(0).astype(np.uint16))
    array, row = convert(tmp_path)
    for k, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        assert np.array_equal(array[k], apply_modality_lut(dataset.pixel_array, dataset))
    assert row["units"] == units


@pytest.mark.parametrize(
    ("bits", "high_bit", "signed"), [(12, 11, False), (12, 15, False), (12, 13, True), (12, 11, True), (10, 9, True)]
)
def test_only_the_stored_bits_count_wherever_they_lie(tmp_path: Path, bits: int, high_bit: int, signed: bool) -> None:
    rng = np.random.default_rng(bits)
    low = -(2 ** (bits - 1)) if signed else 0
    true = rng.integers(low, low + 2**bits, (6, 9, 7))
    words = (true & (2**bits - 1)) << (high_bit + 1 - bits)
    # PS3.5 8.1.1: the other bits may hold anything.
    used = (2**bits - 1) << (high_bit + 1 - bits)
    words |= rng.integers(0, 2**16, words.shape) & ~used & 0xFFFF

    def change(dataset: Dataset, _: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, high_bit, int(signed)

    paths = write(tmp_path, change, words.astype(np.uint16))
    array, _ = convert(tmp_path)
    assert np.array_equal(array, true - 100)
    # GDCM, in ITK, reads them alike; it knows no other HighBit.
    assert high_bit != bits - 1 or np.array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(paths[2])))[0], array[2]
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_layout_of_bits_is_read(data: st.DataObject) -> None:
    allocated = data.draw(st.sampled_from(list(ALLOCATED)))
    bits = data.draw(st.integers(2, allocated))
    high_bit, frames = data.draw(st.integers(bits - 1, allocated - 1)), data.draw(st.integers(1, 2))
    signed, rng = data.draw(st.booleans()), np.random.default_rng(data.draw(st.integers(0, 99)))
    low = -(2 ** (bits - 1)) if signed else 0
    true = rng.integers(low, low + 2**bits, (frames, 4, 6), dtype=np.int64)
    used = (2**bits - 1) << (high_bit + 1 - bits)
    words = ((true << (high_bit + 1 - bits)) & used) | (rng.integers(0, 2**allocated, true.shape) & ~used)
    dataset = new(EnhancedCTImageStorage, "CT", str(generate_uid()))
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = true.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, bits, high_bit
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = words.astype(ALLOCATED[allocated]).tobytes()
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    assert np.array_equal(decode_stored_values(dataset).reshape(true.shape), true)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_other_sizes_of_pixels_keep_their_values(tmp_path: Path, dtype: type) -> None:
    values: NDArray[Any] = (random_values().clip(0) % 250).astype(dtype)
    if dtype == np.int32:
        values += 2**24 + 1

    def change(dataset: Dataset, k: int) -> None:
        bits = values.dtype.itemsize * 8
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
        data = values[k].tobytes()
        if dtype == np.float32:
            del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
            dataset.FloatPixelData, dataset.FloatPixelPaddingValue = data, float(values.max())
        else:
            dataset.PixelRepresentation = int(dtype == np.int32)
            dataset.PixelData = data + bytes(len(data) % 2)
            dataset["PixelData"].VR = "OB" if bits == 8 else "OW"

    write(tmp_path, change, random_values())
    array, _ = convert(tmp_path)
    expected = np.where(values == values.max(), values.min(), values) if dtype == np.float32 else values
    assert np.array_equal(array, expected.astype(np.int64) - 100)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    def change(dataset: Dataset, k: int) -> None:
        values = random_values()[k].astype(np.float32)
        values[0, 0] = np.nan
        del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
        dataset.BitsAllocated, dataset.FloatPixelData = 32, values.tobytes()

    write(tmp_path, change)
    with pytest.raises(DataError, match=r"\(7FE0,0008\): some pixels are NaN, infinite or too large"):
        convert(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "received PALETTE COLOR: its values are indices of a palette"),
        ({"PhotometricInterpretation": "RGB"}, "expected grey pixels, received RGB"),
        ({"PhotometricInterpretation": "MARKER"}, "expected grey pixels, received an unknown term"),
        ({"PixelPresentation": "MIXED"}, "expected grey pixels, received PixelPresentation MIXED"),
    ],
)
def test_colours_are_no_measurement(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    Series(random_values(), changes=changes).write(tmp_path / "in")
    with pytest.raises(DataError, match=reason):
        convert(tmp_path)


@pytest.mark.parametrize(
    ("changes", "units", "reason"),
    [
        ({}, "HU", ""),
        ({"RescaleType": "HU"}, "HU", ""),
        ({"RescaleType": ["HU"] * 3 + [""] * 3}, "HU", ""),
        ({"RescaleType": "MGML"}, "MGML", ""),
        ({"RescaleType": "US"}, "", "not in HU: RescaleType (0028,1054) is US"),
        ({"RescaleType": ["HU"] * 5 + ["US"]}, "", "not in HU: RescaleType (0028,1054) is US"),
        ({"RescaleType": "MARKER"}, "", "not in HU: RescaleType (0028,1054) is another unit"),
        ({"RescaleIntercept": None, "RescaleSlope": None}, "", "not in HU: RescaleIntercept (0028,1052) is missing"),
        ({"ImageType": "DERIVED\\PRIMARY\\AXIAL\\CBF"}, "", "not in HU: ImageType (0008,0008) is CBF"),
        ({"ImageType": "DERIVED\\SECONDARY\\DE_IODINE"}, "", "not in HU: ImageType (0008,0008) is IODINE"),
        ({"ImageType": "DERIVED\\SECONDARY\\REFORMATTED\\AVERAGE"}, "HU", ""),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "HU", ""),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.2"}, "", "not in HU: SOPClassUID (0008,0016) is of no CT image"),
        ({"Modality": "MR", "RescaleType": "HU"}, "", ""),
    ],
)
def test_only_what_is_stated_in_hounsfield_units_is_called_so(
    tmp_path: Path, changes: dict[str, Any], units: str, reason: str
) -> None:
    Series(random_values(), changes=changes).write(tmp_path / "in")
    _, row = convert(tmp_path)
    assert (row["verdict"], row["units"], row["reason"]) == ("converted", units, reason)


def test_slices_of_different_units_are_no_volume(tmp_path: Path) -> None:
    Series(random_values(), changes={"RescaleType": ["HU"] * 5 + ["MGML"]}).write(tmp_path / "in")
    with pytest.raises(DataError, match=r"\(0028,1054\): slices state different units: HU, MGML"):
        convert(tmp_path)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_slices_without_a_rescale_are_no_part_of_a_volume_with_one(tmp_path: Path, modality: str, keyword: str) -> None:
    def change(dataset: Dataset, k: int) -> None:
        dataset.Modality = modality
        if k == 3:
            del dataset[keyword]

    write(tmp_path, change)
    with pytest.raises(DataError, match=f"1 of 6 slices state no {keyword}, the others do"):
        convert(tmp_path)


@pytest.mark.parametrize(
    ("padding", "bits", "is_padding"),
    [
        ((-2000, None), 16, lambda v: v == -2000),
        ((63536, None), 16, lambda v: v == -2000),
        ((2096, None), 12, lambda v: v == -2000),
        ((-2000, -1900), 16, lambda v: v <= -1900),
        ((-1900, -2000), 16, lambda v: v <= -1900),
        ((63636, -2000), 16, lambda v: v <= -1900),
        # No stored value can be that.
        ((5000, None), 12, lambda v: v > 9999),
    ],
)
def test_padding_is_known_however_it_is_written(
    tmp_path: Path, padding: tuple[int, int | None], bits: int, is_padding: Callable[[Any], Any]
) -> None:
    values = random_values().clip(-400)
    values[:, 0], values[:, 1] = -2000, -1950

    def change(dataset: Dataset, _: int) -> None:
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        for keyword, number in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), padding, strict=True):
            if number is not None:
                dataset.add_new(keyword, "SS" if number < 0 else "US", number)

    write(tmp_path, change, values)
    array, _ = convert(tmp_path)
    mask = is_padding(values)
    assert np.array_equal(array[~mask], values[~mask] - 100)
    assert (array[mask] == values[~mask].min() - 100).all()


def test_padding_of_lossy_pixels_stays_and_is_told(tmp_path: Path) -> None:
    values = random_values()
    values[:, 0] = -2000
    changes = {"PixelPaddingValue": -2000, "LossyImageCompression": "01"}
    Series(values, changes=changes).write(tmp_path / "in")
    array, row = convert(tmp_path)
    assert np.array_equal(array, values - 100)
    assert row["reason"] == "padding stays, since lossy pixels do not hold its value exactly"


def test_a_volume_of_padding_alone_is_refused(tmp_path: Path) -> None:
    Series(np.full((6, 9, 7), -2000, np.int16), changes={"PixelPaddingValue": -2000}).write(tmp_path / "in")
    with pytest.raises(DataError, match=r"\(0028,0120\): all pixels are padding"):
        convert(tmp_path)


def enhanced(values: NDArray[Any], rescales: list[dict[str, Any]], modality: str = "CT") -> Dataset:
    """One multi-frame object; ``rescales`` are the items of its frames' pixel value transformation, or one for all."""
    d = new(EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage, modality, str(generate_uid()))
    d.FrameOfReferenceUID, d.ImageType = FRAME, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    d.NumberOfFrames, d.Rows, d.Columns = values.shape
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 1
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=2)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(IDENTITY))],
    )
    frames = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * k])]) for k in range(len(values))]
    for group, rescale in zip([shared] if len(rescales) == 1 else frames, rescales, strict=True):
        group.PixelValueTransformationSequence = [item(**rescale)]
    d.SharedFunctionalGroupsSequence, d.PerFrameFunctionalGroupsSequence = [shared], frames
    d.PixelData = values.astype("<i2").tobytes()
    return d


@pytest.mark.parametrize("is_shared", [True, False])
def test_frames_are_scaled_named_and_padded_by_their_functional_groups(tmp_path: Path, is_shared: bool) -> None:
    values = random_values()
    values[:, 0] = -2000
    slopes = [0.5] * 6 if is_shared else [1 + 0.1 * k for k in range(6)]
    groups = [{"RescaleSlope": s, "RescaleIntercept": -10, "RescaleType": "MGML"} for s in slopes]
    dataset = enhanced(values, groups[:1] if is_shared else groups)
    dataset.PixelPaddingValue = -2000
    # The top level of an enhanced object does not count where a group does.
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 7, 7, "HU"
    save(dataset, tmp_path / "in/one")
    array, row = convert(tmp_path)
    expected = np.stack([apply_rescale(values[k, 1:], item(**groups[k])) for k in range(6)])
    assert row["units"] == "MGML"
    assert np.allclose(array[:, 1:], expected, rtol=1e-6)
    assert np.allclose(array[:, 0], expected.min(), rtol=1e-6)


def test_enhanced_objects_of_one_frame_make_a_volume(tmp_path: Path) -> None:
    values = random_values()
    values[:, 0] = -2000
    series = str(generate_uid())
    for k in range(6):
        dataset = enhanced(values[k : k + 1], [{"RescaleSlope": 2, "RescaleIntercept": 5, "RescaleType": "MGML"}])
        dataset.SeriesInstanceUID, dataset.PixelPaddingValue = series, -2000
        dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2 * k]
        save(dataset, tmp_path / f"in/{k}")
    array, row = convert(tmp_path)
    assert np.array_equal(array[:, 1:], values[:, 1:] * 2.0 + 5)
    assert (array[:, 0] == array[:, 1:].min()).all()
    assert (row["units"], row["files"]) == ("MGML", "6")


def test_padding_of_each_frame_is_its_own(tmp_path: Path) -> None:
    values = random_values().clip(-400)
    groups: list[dict[str, Any]] = []
    for k in range(6):
        values[k, 0] = -2000 - k
        groups.append({"RescaleSlope": 1, "RescaleIntercept": 0, "PixelPaddingValue": -2000 - k})
    save(enhanced(values, groups), tmp_path / "in/one")
    array, _ = convert(tmp_path)
    assert np.array_equal(array[:, 1:], values[:, 1:])
    assert (array[:, 0] == values[:, 1:].min()).all()


def test_frames_of_different_units_are_no_volume(tmp_path: Path) -> None:
    groups = [{"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "HU" if k else "Z_EFF"} for k in range(6)]
    save(enhanced(random_values(), groups), tmp_path / "in/one")
    with pytest.raises(DataError, match="slices state different units: HU, Z_EFF"):
        convert(tmp_path)


def test_shifted_bits_of_many_frames_are_moved_too(tmp_path: Path) -> None:
    true = random_values().clip(0) % 1000
    dataset = enhanced(true << 4, [{"RescaleSlope": 1, "RescaleIntercept": 0}])
    dataset.BitsStored, dataset.PixelRepresentation = 12, 0
    save(dataset, tmp_path / "in/one")
    array, _ = convert(tmp_path)
    assert np.array_equal(array, true)


def test_an_enhanced_object_is_scaled_by_its_top_level_where_no_group_says_how(tmp_path: Path) -> None:
    dataset = enhanced(random_values(), [{"RescaleType": "US"}], "MR")
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, 3
    save(dataset, tmp_path / "in/one")
    array, row = convert(tmp_path)
    assert np.array_equal(array, random_values() * 2.0 + 3)
    assert row["units"] == ""
