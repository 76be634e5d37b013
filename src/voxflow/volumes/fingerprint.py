"""The fingerprint of a data set: sizes, spacings, intensities and class volumes of its cases, as a few numbers.

Planning reads it to choose spacing, windows and patch sizes, as nnU-Net does with its own fingerprint.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from voxflow.errors import DataError
from voxflow.files import write_json
from voxflow.machine import count_cores
from voxflow.progress import track
from voxflow.volumes.channel_profile import ChannelFeatures, ChannelProfile, build_profile, measure_channels
from voxflow.volumes.files import read_image, read_label

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FINGERPRINT = "fingerprint.json"
VOXELS_A_CASE = 20_000  # drawn from each image; percentiles of a set of cases move by less than their own spread
TAILS = (0.5, 50.0, 99.5)
# Two classes are opposed along an axis: as large as each other, and always on the same sides of it.
ALIKE_VOLUME, LEAST_DISTANCE, LEAST_SHARE, LEAST_CASES = 2.0, 2.0, 0.5, 3
MOST_COMPARED = 64  # classes; a body has pairs enough, and more would take a second

Triple = tuple[float, float, float]
AxisName = Literal["i", "j", "k"]
AXES: tuple[AxisName, ...] = get_args(AxisName)


class Spread(BaseModel):
    """How cases differ along (i, j, k), each axis by itself.

    Attributes:
        least, median, most: over the cases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: Triple
    median: Triple
    most: Triple


class Intensity(BaseModel):
    """One channel's values inside the labels, or anywhere where no case has a label.

    Attributes:
        percentile_00_5, median, percentile_99_5, mean, deviation: in the units of the images, such as HU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    percentile_00_5: float
    median: float
    percentile_99_5: float
    mean: float
    deviation: float


class ClassVolume(BaseModel):
    """One class of the labels.

    Attributes:
        value: in the label map.
        cases: how many hold it.
        median_ml: its volume where it is there.
        share: of all voxels of the images that it was labelled in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: int
    cases: int
    median_ml: float
    share: float


class OpposedClasses(BaseModel):
    """Two classes of one size, of which one always lies on the same side of the other: mirrored, they change places.

    Attributes:
        values: in the label map; the first has the smaller index along the axis.
        axis: of the volumes' array.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: tuple[int, int]
    axis: AxisName


class Fingerprint(BaseModel):
    """A set of cases in numbers.

    Attributes:
        cases: how many.
        labelled: how many have a label.
        modality: DICOM's word for it, where all cases have the same; else empty.
        size: voxels.
        spacing_mm: between voxels.
        intensity: by channel, those that every case has.
        classes: by label value, the background left out.
        modalities: DICOM's word for each channel, empty where nobody knows; none of a single channel.
        profile: how the channels differ and go together, where a case has several and there are enough cases.
        opposed: classes that a mirror image would confuse, found by size and place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int
    labelled: int
    modality: str = ""
    size: Spread
    spacing_mm: Spread
    intensity: tuple[Intensity, ...]
    classes: tuple[ClassVolume, ...]
    modalities: tuple[str, ...] = ()
    profile: ChannelProfile | None = None
    opposed: tuple[OpposedClasses, ...] = ()

    @model_serializer(mode="wrap")
    def _leave_out_what_is_new(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Cases of one channel and of no pair of classes have the fingerprint that they had before these keys.
        content: dict[str, Any] = serialise(self)
        optional = ("profile", "modalities", "opposed")
        return {key: value for key, value in content.items() if key not in optional or value}

    @property
    def channels(self) -> int:
        """Number of channels of an image."""
        return len(self.intensity)

    @property
    def voxels(self) -> float:
        """Number of voxels of an image of median size."""
        return float(np.prod(self.size.median))

    @property
    def gigabytes(self) -> float:
        """Memory of all cases as training keeps them, 10⁹ bytes: an image in four bytes a voxel, a label in one."""
        return self.cases * self.voxels * (4 * self.channels + 1) / 1e9

    def to_metrics(self) -> dict[str, float]:
        """Flatten the fingerprint into names and numbers, as ``dvc metrics`` shows them.

        Returns:
            Such as ``size_i``, ``spacing_mm_k``, ``intensity_0_mean``, ``class_2_ml``; sizes and spacings are medians.
        """
        flat: dict[str, float] = {"labelled": self.labelled}
        for name, spread in (("size", self.size), ("spacing_mm", self.spacing_mm)):
            flat |= {f"{name}_{axis}": value for axis, value in zip("ijk", spread.median, strict=True)}
        for channel, values in enumerate(self.intensity):
            flat |= {f"intensity_{channel}_{name}": value for name, value in values.model_dump().items()}
        for class_volume in self.classes:
            flat |= {
                f"class_{class_volume.value}_ml": class_volume.median_ml,
                f"class_{class_volume.value}_cases": class_volume.cases,
            }
        return flat


@dataclass(frozen=True)
class _CaseMeasurement:
    """What is measured of one case.

    Attributes:
        size: voxels along (i, j, k).
        spacing: mm, likewise.
        intensities: (channels, n), some of its voxels' values.
        voxels: how many voxels each label value has; None where the case has no label.
        features: of its channels; None of a single one.
        centres: of each label value but 0, mm from the first voxel along (i, j, k).
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    intensities: NDArray[np.float64]
    voxels: dict[int, int] | None
    features: ChannelFeatures | None = None
    centres: dict[int, NDArray[np.float64]] = field(default_factory=dict)


def measure_fingerprint(
    cases: Sequence[tuple[Sequence[Path], Path | None]],
    modality: str = "",
    *,
    ignore: int | None = None,
    labelled: Sequence[Collection[int] | None] | None = None,
    channels: Mapping[str, str] | None = None,
) -> Fingerprint:
    """Measure cases from their files.

    Args:
        cases: channels and label of each.
        modality: of all of them; empty where they differ or nobody knows.
        ignore: the label value of voxels that nobody labelled, which are left out of what labels say.
        labelled: of each case, the label values that were looked for; None, for a case or for all: every value.
        channels: modality of each channel by its name, where a case has several; empty where nobody knows.

    Raises:
        DataError: there is no case, or a file can't be read.
    """
    if not cases:
        raise DataError("no case to measure")
    with ThreadPoolExecutor(count_cores()) as pool:
        measured = pool.map(lambda case: _measure_case(case[0], case[1], ignore), cases)
        measurements = list(track(measured, "measuring", total=len(cases)))
    # What only some cases have is no part of what they have in common; training says it where it matters.
    common = min(len(measurement.intensities) for measurement in measurements)
    with_label = [n for n, measurement in enumerate(measurements) if measurement.voxels is not None]
    label_measurements = [measurements[n] for n in with_label]
    # Where some cases have labels, those without say nothing of what lies inside of them.
    sampled = [measurement.intensities[:common] for measurement in label_measurements or measurements]
    intensities = np.concatenate(sampled, axis=1)
    return Fingerprint(
        cases=len(measurements),
        labelled=len(label_measurements),
        modality=modality,
        size=_compute_spread([measurement.size for measurement in measurements]),
        spacing_mm=_compute_spread([measurement.spacing for measurement in measurements]),
        intensity=tuple(map(_compute_intensity, intensities)),
        classes=_compute_classes(label_measurements, [labelled[n] if labelled else None for n in with_label]),
        modalities=tuple((channels or {}).values()) if common > 1 else (),
        profile=_build_profile(list(channels or ()), measurements),
        opposed=_find_opposed(label_measurements),
    )


def list_values(names: Collection[str] | None, classes: Mapping[str, Collection[int]]) -> frozenset[int] | None:
    """List the label values that were looked for in a case of which some classes were labelled.

    Args:
        names: of the classes that were labelled; None: all.
        classes: the label values of each; a value that several share was looked for where all of them were labelled.

    Returns:
        None where all were.

    Example:
        >>> sorted(list_values(["whole"], {"whole": (1, 2), "core": (1,)}) or ())
        [2]
    """
    if names is None:
        return None
    unknown = {value for name, values in classes.items() if name not in names for value in values}
    return frozenset(value for values in classes.values() for value in values if value not in unknown)


def _measure_case(images: Sequence[Path], label: Path | None, ignore: int | None) -> _CaseMeasurement:
    volumes = read_image(images)
    geometry = volumes[0].geometry
    inside, voxels, centres = None, None, {}
    if label is not None:
        mask = read_label(label, geometry).array
        values, counts = np.unique(mask, return_counts=True)
        voxels = {int(value): int(count) for value, count in zip(values, counts, strict=True) if value != ignore}
        inside = np.flatnonzero(mask if ignore is None else (mask != 0) & (mask != ignore))
        if 2 <= len(voxels.keys() - {0}) <= MOST_COMPARED:
            centres = _find_centres(mask, inside, geometry.spacing)
    flat = [volume.array.reshape(-1) for volume in volumes]
    sampled = inside if inside is not None and inside.size else np.arange(flat[0].size)
    # Every nth voxel, and never more than VOXELS_A_CASE: without chance, so that a second run gives the same.
    sampled = sampled[:: -(-sampled.size // VOXELS_A_CASE)]
    intensities = np.stack([channel[sampled] for channel in flat]).astype(np.float64)
    return _CaseMeasurement(geometry.size, geometry.spacing, intensities, voxels, measure_channels(volumes), centres)


def _find_centres(
    mask: NDArray[Any], inside: NDArray[np.int64], spacing: Sequence[float]
) -> dict[int, NDArray[np.float64]]:
    """The mean place in mm of each value's voxels, by some of the flat indices that hold labels."""
    thin = inside[:: -(-inside.size // (10 * VOXELS_A_CASE))]
    values = mask.reshape(-1)[thin]
    places = np.stack(np.unravel_index(thin, mask.shape), 1) * np.asarray(spacing)
    return {int(value): places[values == value].mean(0) for value in np.unique(values)}


def _find_opposed(measurements: Sequence[_CaseMeasurement]) -> tuple[OpposedClasses, ...]:
    """Pairs of classes of like volume whose distance along an axis is large and of one sign in all cases with both."""
    centres = [(item.centres, item.voxels or {}) for item in measurements]
    pairs = combinations(sorted({value for places, _ in centres for value in places}), 2)
    opposed = []
    for first, second in pairs:
        together = [(places, voxels) for places, voxels in centres if first in places and second in places]
        if len(together) < LEAST_CASES:
            continue
        ratio = np.median([voxels[first] / voxels[second] for _, voxels in together])
        distances = np.array([places[second] - places[first] for places, _ in together])
        mean, deviation = distances.mean(0), distances.std(0)
        if max(ratio, 1 / ratio) > ALIKE_VOLUME:
            continue
        for axis, name in enumerate(AXES):
            is_far = abs(mean[axis]) > max(LEAST_DISTANCE * deviation[axis], LEAST_SHARE * float(np.linalg.norm(mean)))
            if is_far:
                values = (first, second) if mean[axis] > 0 else (second, first)
                opposed.append(OpposedClasses(values=values, axis=name))
    return tuple(opposed)


def _build_profile(channels: Sequence[str], measurements: Sequence[_CaseMeasurement]) -> ChannelProfile | None:
    features = [measurement.features for measurement in measurements if measurement.features is not None]
    complete = [case for case in features if len(case.single) == len(channels)]
    return build_profile(channels, complete) if len(channels) > 1 else None


def _compute_spread(values: Sequence[Sequence[float]]) -> Spread:
    rows = np.round(np.array(values, dtype=np.float64), 4)
    least, median, most = ((float(i), float(j), float(k)) for i, j, k in (rows.min(0), np.median(rows, 0), rows.max(0)))
    return Spread(least=least, median=median, most=most)


def _compute_intensity(values: NDArray[np.float64]) -> Intensity:
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise DataError("no voxel has a finite value")
    low, middle, high = (float(f"{value:.6g}") for value in np.percentile(finite, TAILS))
    mean, deviation = float(f"{finite.mean():.6g}"), float(f"{finite.std():.6g}")
    return Intensity(percentile_00_5=low, median=middle, percentile_99_5=high, mean=mean, deviation=deviation)


def _compute_classes(
    measurements: Sequence[_CaseMeasurement], labelled: Sequence[Collection[int] | None]
) -> tuple[ClassVolume, ...]:
    voxels_and_ml = [(item.voxels or {}, float(np.prod(item.spacing)) / 1000) for item in measurements]
    totals = [sum(voxels.values()) for voxels, _ in voxels_and_ml]
    class_volumes = []
    for value in sorted({value for voxels, _ in voxels_and_ml for value in voxels if value != 0}):
        volumes = [voxels[value] * voxel_ml for voxels, voxel_ml in voxels_and_ml if value in voxels]
        # Where nobody looked for a class, that it has no voxel says nothing.
        total = sum(total for total, looked_for in zip(totals, labelled, strict=True)
                    if looked_for is None or value in looked_for)  # fmt: skip
        share = sum(voxels.get(value, 0) for voxels, _ in voxels_and_ml) / max(total, 1)
        median = float(f"{np.median(volumes):.6g}")
        share = float(f"{share:.4g}")
        class_volumes.append(ClassVolume(value=value, cases=len(volumes), median_ml=median, share=share))
    return tuple(class_volumes)


def read_fingerprint(path: Path) -> Fingerprint:
    """Read what :func:`write_fingerprint` wrote.

    Raises:
        DataError: the file is missing or holds something else; the message names the first wrong field.
    """
    try:
        return Fingerprint.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError("file not found; the stage resample writes it", path=path) from error
    except ValidationError as error:
        fault = error.errors()[0]
        json_path = ".".join(map(str, fault["loc"]))
        raise DataError(f"no fingerprint: {json_path}: {fault['msg']}", path=path) from error


def write_fingerprint(path: Path, fingerprint: Fingerprint) -> None:
    """Write a fingerprint as JSON, whole or not at all."""
    content: dict[str, Any] = json.loads(fingerprint.model_dump_json())
    write_json(path, content)
