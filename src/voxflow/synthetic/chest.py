"""The sample of chest radiographs: 16-bit CR and DX, both photometric interpretations, findings in a CSV."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.synthetic.files import Person, new_dataset, set_pixels, write_shuffled

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

FINDINGS = ("mass", "effusion", "cardiomegaly")
SIDE = 256
WITHOUT_ROW = 0.05
SEVERAL_IMAGES = 1.45
FULL_SCALE = 4095


@dataclass(frozen=True)
class Chest:
    """What one radiograph shows: findings in the order of :data:`FINDINGS`."""

    findings: tuple[int, ...]
    image: NDArray[np.float64]


def write_chest_xray(folder: Path, images: int, seed: int) -> None:
    """Write chest radiographs of invented patients, several for some of them, and ``findings.csv``.

    Every twentieth image has no row in the CSV, so that there is something to infer on.

    Args:
        folder: where to write; made when missing.
        images: how many.
        seed: decides everything.
    """
    objects, rows = [], []
    people = max(1, round(images / SEVERAL_IMAGES))
    for index in range(images):
        rng = np.random.default_rng([seed, index])
        person = Person(index % people + 1, seed, "XR")
        chest = draw_chest(rng)
        dataset = _build_radiograph(person, chest, index)
        objects.append(dataset)
        if index % round(1 / WITHOUT_ROW):
            rows.append([dataset.SOPInstanceUID, dataset.PatientID, *chest.findings])
    write_shuffled(folder, objects, np.random.default_rng(seed))
    with (folder / "findings.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sop_instance_uid", "patient_id", *FINDINGS])
        writer.writerows(rows)


def draw_chest(rng: np.random.Generator) -> Chest:
    """Draw one radiograph and choose its findings, each independently.

    Returns:
        The picture (rows, columns) from 0 (black) to 1, dense is bright; and 0 or 1 for each finding.
    """
    from scipy.ndimage import gaussian_filter

    mass, effusion, cardiomegaly = (int(rng.random() < 0.4) for _ in FINDINGS)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    x, y = x - rng.normal(0, 0.015), y - rng.normal(0, 0.015)
    body = 0.62 * np.exp(-((np.abs(x) / 0.47) ** 6)) + 0.08 * np.exp(-((x / 0.05) ** 2))
    lungs = np.zeros_like(x)
    for side in (-1, 1):
        width, height = rng.uniform(0.135, 0.155), rng.uniform(0.29, 0.33)
        lungs = np.maximum(lungs, _draw_blob(x - side * 0.2, y + 0.02, width, height, sharp=8))
    ribs = 0.05 * np.sin(60 * (y + 0.6 * np.abs(x) ** 2) + rng.uniform(0, 6)) * lungs
    heart_width = rng.uniform(0.14, 0.18) if cardiomegaly else rng.uniform(0.105, 0.145)
    heart = _draw_blob(x - 0.05, y - 0.14, heart_width, 0.14, sharp=6)
    image = body - 0.38 * lungs * (1 - 0.85 * heart) + ribs
    image += 0.12 * _draw_masses(rng, x, y) * lungs if mass else 0
    image += 0.18 * _draw_effusion(rng, x, y) * lungs if effusion else 0
    image = gaussian_filter(image, rng.uniform(0.8, 1.4)) * rng.uniform(0.9, 1.1)
    image += gaussian_filter(rng.normal(0, 0.05, image.shape), 0.6) + 0.03 * gaussian_filter(
        rng.normal(0, 12, image.shape), 12
    )
    return Chest((mass, effusion, cardiomegaly), image.clip(0, 1))


def _draw_blob(
    x: NDArray[np.float64], y: NDArray[np.float64], a: float, b: float, *, sharp: float
) -> NDArray[np.float64]:
    from scipy.special import expit

    return np.asarray(expit(-sharp * ((x / a) ** 2 + (y / b) ** 2 - 1)))


def _draw_masses(rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    side = rng.choice([-1, 1])
    radius = rng.uniform(0.04, 0.06)
    return _draw_blob(x - side * rng.uniform(0.17, 0.24), y - rng.uniform(-0.2, 0.02), radius, radius, sharp=3)


def _draw_effusion(rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    side = rng.choice([-1, 1])
    top = rng.uniform(0.1, 0.16) - 0.5 * (np.abs(x) - 0.2).clip(0)
    return np.asarray((x * side > 0) / (1 + np.exp(-60 * (y - top))))


def _build_radiograph(person: Person, chest: Chest, index: int) -> Dataset:
    from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation

    digital = bool(index % 2)
    sop_class = DigitalXRayImageStorageForPresentation if digital else ComputedRadiographyImageStorage
    modality = "DX" if digital else "CR"
    dataset = new_dataset(person, sop_class, modality=modality, series=f"chest {index}", instance=1)
    dataset.ImageType, dataset.BodyPartExamined, dataset.ViewPosition = ["ORIGINAL", "PRIMARY", ""], "CHEST", "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.PixelSpacing = dataset.ImagerPixelSpacing = ["1.4", "1.4"]
    inverted = index % 3 == 0
    set_pixels(dataset, np.rint((1 - chest.image if inverted else chest.image) * FULL_SCALE), signed=False, bits=12)
    if inverted:
        dataset.PhotometricInterpretation = "MONOCHROME1"
    return dataset
