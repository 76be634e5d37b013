"""The sample of brain tumours in MR: four contrasts a study, and three nested regions as overlapping DICOM SEG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.geometry import Geometry
from voxflow.synthetic.files import Person, new_dataset, place_slice, require_patients, set_pixels, write_shuffled
from voxflow.synthetic.head import CONTRASTS, REGIONS, Head, draw_head
from voxflow.synthetic.labels import build_seg

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

    from voxflow.synthetic.head import Contrast

COLUMNS, SLICES = 64, 32
UNLABELLED, MIN_PATIENTS, WITH_LOCALIZER, THICK_FLAIR = 2, 6, 0, 1
# What scanners and sites call the same contrast; a rule that reads descriptions must know all of them.
DESCRIPTIONS: dict[Contrast, tuple[str, ...]] = {
    "T1": ("AX T1 SE", "T1w axial", "t1_se_tra"),
    "T1c": ("AX T1 SE +C", "T1w axial post Gd", "t1_se_tra_km"),
    "T2": ("AX T2 TSE", "T2w axial", "t2_tse_tra"),
    "FLAIR": ("AX FLAIR", "FLAIR axial", "t2_flair_tra"),
}
# RepetitionTime, EchoTime, InversionTime in ms; ScanningSequence (0018,0020).
TIMING: dict[Contrast, tuple[float, float, float | None, list[str]]] = {
    "T1": (550.0, 11.0, None, ["SE"]),
    "T1c": (550.0, 11.0, None, ["SE"]),
    "T2": (4200.0, 98.0, None, ["SE"]),
    "FLAIR": (9000.0, 110.0, 2500.0, ["SE", "IR"]),
}


def write_brain_mr(folder: Path, patients: int, seed: int) -> None:
    """Write MR studies of invented patients with a brain tumour, and one more patient who has no FLAIR.

    Each study has the series T1, T1c, T2 and FLAIR in one frame of reference. The last two patients have no label,
    the others a DICOM SEG with overlapping segments: whole tumour, tumour core, enhancing tumour. Descriptions,
    intensities and noise differ between patients, and every third FLAIR has thicker slices than the other series; a
    localizer lies between the images; file names say nothing.

    Args:
        folder: where to write; made when missing.
        patients: whole studies, at least six.
        seed: decides everything.

    Raises:
        DataError: fewer than six patients.
    """
    require_patients(patients, MIN_PATIENTS)
    objects: list[Dataset] = []
    for index in range(patients + 1):
        rng = np.random.default_rng([seed, index])
        person = Person(index + 1, seed, "MR")
        head = draw_head(rng, _choose_grid(rng))
        thick = _thicken_slices(head, "FLAIR") if index % 3 == THICK_FLAIR else head
        heads = {contrast: thick if contrast == "FLAIR" else head for contrast in CONTRASTS}
        series = {contrast: build_mr_series(person, heads[contrast], contrast, site=index) for contrast in CONTRASTS}
        if index == patients:
            del series["FLAIR"]
        objects += [dataset for slices in series.values() for dataset in slices]
        if index < patients - UNLABELLED:
            objects.append(build_seg(person, series["T1c"], dict(zip(REGIONS, head.regions, strict=True))))
        if index == WITH_LOCALIZER:
            objects.append(_build_localizer(person, head.images["T1"]))
    write_shuffled(folder, objects, np.random.default_rng(seed))


def build_mr_series(person: Person, head: Head, contrast: Contrast, *, site: int) -> list[Dataset]:
    """Build one MR Image object a slice, in the order of the grid's third axis.

    Args:
        person: whom the series shows.
        head: intensities and grid.
        contrast: which of the four.
        site: decides how the series is described.
    """
    from pydicom.uid import MRImageStorage

    geometry = head.geometry
    repetition, echo, inversion, sequence = TIMING[contrast]
    slices = []
    for k in range(geometry.size[2]):
        dataset = new_dataset(person, MRImageStorage, modality="MR", series=contrast, instance=k + 1)
        dataset.SeriesNumber = CONTRASTS.index(contrast) + 2
        dataset.SeriesDescription = DESCRIPTIONS[contrast][site % len(DESCRIPTIONS[contrast])]
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        dataset.PatientPosition = "HFS"
        place_slice(dataset, person, geometry, k)
        dataset.SpacingBetweenSlices = dataset.SliceThickness
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = sequence, "SK", ""
        dataset.MRAcquisitionType, dataset.MagneticFieldStrength = "2D", "1.5"
        dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = f"{repetition:g}", f"{echo:g}", 1
        if inversion is not None:
            dataset.InversionTime = f"{inversion:g}"
        if contrast == "T1c":
            dataset.ContrastBolusAgent, dataset.ContrastBolusRoute = "Gadobutrol", "IV"
        set_pixels(dataset, np.rint(head.images[contrast][:, :, k].T.clip(0, 4095)), signed=False, bits=12)
        slices.append(dataset)
    return slices


def _thicken_slices(head: Head, contrast: Contrast) -> Head:
    """One contrast in slices twice as thick, as many sites take FLAIR: on a grid of its own."""
    size, geometry = head.geometry.size, head.geometry
    image = head.images[contrast].reshape(*size[:2], size[2] // 2, 2).mean(-1)
    spacing = (*geometry.spacing[:2], 2 * geometry.spacing[2])
    origin = geometry.to_physical(np.array([0.0, 0.0, 0.5]))
    grid = Geometry.from_parts(image.shape, spacing, origin.tolist(), geometry.direction)
    return Head({contrast: image}, head.regions, grid)


def _choose_grid(rng: np.random.Generator) -> Geometry:
    """A grid around the head's centre: coarse, so that a CPU learns it in minutes."""
    in_plane, between = rng.choice([2.8, 2.9, 3.0]), rng.choice([4.6, 4.8, 5.0])
    size = (COLUMNS, COLUMNS, SLICES)
    spacing = np.array([in_plane, in_plane, between])
    origin = -spacing * (np.array(size) - 1) / 2
    return Geometry.from_parts(size, spacing.tolist(), origin.tolist(), np.eye(3))


def _build_localizer(person: Person, image: NDArray[np.float32]) -> Dataset:
    """One sagittal image of low resolution, as each examination begins with."""
    from pydicom.uid import MRImageStorage

    dataset = new_dataset(person, MRImageStorage, modality="MR", series="localizer", instance=1)
    dataset.SeriesDescription, dataset.ImageType = "localizer", ["ORIGINAL", "PRIMARY", "M", "LOCALIZER"]
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = person.uid("frame"), ""
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = ["0", "-90", "80"], ["0", "1", "0", "0", "0", "-1"]
    dataset.PixelSpacing, dataset.SliceThickness = ["4.8", "2.9"], "8"
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "GR", "SP", ""
    dataset.MRAcquisitionType, dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = "2D", "9", "4", 1
    set_pixels(dataset, np.rint(image[len(image) // 2].T.clip(0, 4095)), signed=False, bits=12)
    return dataset
