"""The cases that a model is run on: their files, reading them, and a list of those that can't be used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from voxflow.errors import (
    EXIT_FAILURE,
    EXIT_OK,
    EXIT_SOME_FAILED,
    LIBRARY_ERRORS,
    DataError,
    InputError,
    join_names,
    shorten,
)
from voxflow.files import write_json
from voxflow.images import read_channel_rules, read_ignore
from voxflow.naming import name_classes
from voxflow.prediction import require_named_channels
from voxflow.tables import LABELLED, read_rows
from voxflow.volumes import (
    CHANNEL_SEPARATOR,
    ChannelProfile,
    Volume,
    align,
    describe_swap,
    read_image,
    read_radiograph,
    require_cover,
    require_finite,
    require_overlap,
    require_place,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.dicom import ConvertOptions, Origin, SourceFiles
    from voxflow.prediction import SwapHandling
    from voxflow.spec import ModelSpec

T = TypeVar("T")

Metrics = dict[str, float | int]

# What one bad image or label can raise. Files that can't be written (OSError) are no case's fault and end the work.
_CASE_ERRORS = (InputError, *LIBRARY_ERRORS)


@dataclass(frozen=True)
class InferenceCase:
    """One case, on its own grid.

    Attributes:
        id: pseudonym.
        images: one file a channel.
        label: mask file, or 0 and 1 by class; None when unknown.
        origins: the DICOM series and volume that each image came from; none when it was no DICOM.
        sources: the files that each image was made of, where a DICOM SEG is wanted; None of one that is gone.
        file: how tables name its image; empty: by the file's own name.
        ignore: the mask's value of voxels that nobody labelled; None where there is none.
        labelled: names of the classes that were labelled in the mask; None: all.
        channels: names of the images, where the data set tells them.
        selection: of the channels that the files hold, those that the model takes, in its order, from 0; empty: all.
        units: of the intensities of each image, as cases.csv has them; none where nobody knows.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | tuple[int, ...] | None = None
    origins: tuple[Origin, ...] = ()
    sources: tuple[SourceFiles | None, ...] = ()
    file: str = ""
    ignore: int | None = None
    labelled: tuple[str, ...] | None = None
    channels: tuple[str, ...] = ()
    selection: tuple[int, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def image_name(self) -> str:
        """How tables name the image."""
        return self.file or self.images[0].name

    def find_source(self, spec: ModelSpec) -> SourceFiles | None:
        """Find the files that the mask's grid comes from; None where there are none, and no DICOM SEG is wanted."""
        return self.sources[spec.reference] if spec.reference < len(self.sources) else None


@dataclass
class Failures:
    """The cases that could not be used, each with its reason.

    Attributes:
        rows: "case" and "reason", in the order in which they failed; a case may have several.
    """

    rows: list[dict[str, str]] = field(default_factory=list)

    def attempt(self, case: InferenceCase, work: Callable[[], T]) -> T | None:
        """Do one case's work, and note the reason where the case is bad.

        Returns:
            What ``work`` returned; None where the case is bad.

        Raises:
            OSError: a result could not be written, which is no case's fault and ends the work.
        """
        try:
            return work()
        except _CASE_ERRORS as error:
            lines = str(error).strip().splitlines()
            self.rows.append({"case": case.id, "reason": shorten(lines[0]) if lines else type(error).__name__})
            return None

    @property
    def cases(self) -> set[str]:
        """Names of the failed cases."""
        return {row["case"] for row in self.rows}

    def exit_code(self, good_cases: int) -> int:
        """Choose the exit code of a stage: 0 when all went well, 3 when some cases failed, 1 when all did."""
        if not self.rows:
            return EXIT_OK
        return EXIT_SOME_FAILED if good_cases else EXIT_FAILURE

    def summary(self) -> str:
        """Half a line for a person: how many failed and the first reason; empty when none did."""
        if not self.rows:
            return ""
        return (
            f", {len(self.cases)} failed (failures.json; the first, {self.rows[0]['case']}: {self.rows[0]['reason']})"
        )

    def write(self, folder: Path) -> None:
        """Write failures.json, an empty list when all went well."""
        write_json(folder / "failures.json", list(self.rows))


def read_volumes(case: InferenceCase, spec: ModelSpec) -> tuple[Volume, ...]:
    """Read the channels of a volume; one file may hold several.

    Args:
        case: its files.
        spec: of the model. Where its training brought channels onto the grid of one, they may lie on grids of their own
            here, too; else all have the first one's voxels.

    Raises:
        DataError: a file is missing, unreadable or on another grid, or holds values that are no numbers; a channel is
            missing, or two are the same.
    """
    if case.channels and spec.channels and case.channels != spec.channels:
        order = ", ".join(spec.channels)
        raise DataError(f"its channels are {', '.join(case.channels)}; the model takes {order}, in this order")
    volumes: list[Volume] = []
    paths: list[Path] = []
    for path in case.images:
        grid = volumes[0].geometry if volumes and not spec.takes_own_grids else None
        for channel in read_image([path], grid):
            require_finite(channel.array, path)
            volumes.append(channel)
            paths.append(path)
    if case.selection:
        if max(case.selection) >= len(volumes):
            raise DataError(
                f"expected {max(case.selection) + 1} channels, the file holds {len(volumes)}", path=paths[0]
            )
        volumes, paths = [volumes[n] for n in case.selection], [paths[n] for n in case.selection]
    if spec.channels:
        require_named_channels(len(volumes), spec)
        _refuse_repeated_image(volumes, paths, spec)
    return tuple(_place_channels(volumes, paths, spec) if spec.takes_own_grids else volumes)


def check_channel_order(volumes: Sequence[Volume], spec: ModelSpec, handling: SwapHandling) -> str:
    """Compare a case's channels with those of the training's cases.

    Args:
        volumes: of :func:`read_volumes`.
        spec: of the model.
        handling: what becomes of a case whose channels look swapped.

    Returns:
        What the tables are to say of the case; empty where its channels look right, or where that can't be told.

    Raises:
        DataError: they look swapped, and such a case is refused.
    """
    swap = describe_swap(ChannelProfile.model_validate(spec.profile), volumes) if spec.profile else ""
    if swap and handling == "refuse":
        ways = "name its images by channel, or give them in the model's order"
        raise DataError(f"{swap}: {ways}; if they are right as they are, set swapped_channels: warn")
    return swap


def _refuse_repeated_image(volumes: Sequence[Volume], paths: Sequence[Path], spec: ModelSpec) -> None:
    for (first, volume), (second, further_volume) in combinations(enumerate(volumes), 2):
        if _is_same_image(volume, further_volume):
            names = f"{spec.channels[first]} and {spec.channels[second]}"
            raise DataError(f"the channels {names} are one image, voxel for voxel", path=paths[second])


def _place_channels(volumes: Sequence[Volume], paths: Sequence[Path], spec: ModelSpec) -> Iterator[Volume]:
    """Turn channels that have the reference's voxels to its axes; check where the others lie, as the stage resample."""
    grids = {name: volume.geometry for name, volume in zip(spec.channels, volumes, strict=True)}
    reference = grids[spec.onto]
    for name, volume, path in zip(spec.channels, volumes, paths, strict=True):
        if volume.geometry.find_axes(reference) is not None:
            yield align(volume, reference, path)
            continue
        require_place(volume.geometry, path)
        require_overlap({spec.onto: reference, name: volume.geometry})
        require_cover(name, volume.geometry, reference)
        yield volume


def _is_same_image(first: Volume, second: Volume) -> bool:
    """Whether two images are equal, and not of one value alone, as what stands in for a missing channel may be."""
    if first.array.shape != second.array.shape:
        return False
    middle = first.array.shape[2] // 2  # differs in almost all cases, and costs little
    is_equal = np.array_equal(first.array[..., middle], second.array[..., middle])
    return is_equal and np.array_equal(first.array, second.array) and first.array.min() != first.array.max()


def read_radiographs(case: InferenceCase) -> tuple[NDArray[Any], ...]:
    """Read the channels of a radiograph.

    Raises:
        DataError: a file is missing or unreadable.
    """
    images = []
    for path in case.images:
        try:
            images.append(read_radiograph(path))
        except OSError as error:
            raise DataError(f"unreadable image: {error}", path=path) from error
    return tuple(images)


def find_native_cases(
    labels: Iterable[tuple[str, Path | tuple[int, ...] | None]], volumes: Path, *, is_mask: bool
) -> list[InferenceCase]:
    """Find the original images of cases that a datalist names.

    Args:
        labels: case and label, as the datalist gives them.
        volumes: the folder that the stage convert made; its cases.csv tells the files.
        is_mask: labels are masks: the original mask is taken, too.

    Raises:
        DataError: cases.csv is missing or does not hold a case; all of those at once.
    """
    table = volumes / "cases.csv"
    all_rows = read_rows(table)
    if all_rows is None:
        raise DataError("file not found; run the stage convert first", path=table)
    rows = {row["case"]: row for row in all_rows}
    names = list(labels)
    missing = [case for case, _ in names if case not in rows]
    if missing:
        raise DataError(f"no row for {join_names(missing)}; run the stages convert and split again", path=table)
    cases = [_make_native_case(case, label, rows[case], volumes, is_mask) for case, label in names]
    channels = tuple(read_channel_rules(volumes))
    ignore = read_ignore(volumes) if is_mask else None
    if not channels and ignore is None:
        return cases
    return [replace(case, channels=channels, ignore=ignore) for case in cases]


def _make_native_case(
    case: str, label: Path | tuple[int, ...] | None, row: dict[str, str], volumes: Path, is_mask: bool
) -> InferenceCase:
    if is_mask:
        label = volumes / row["label"] if row.get("label") else None
    # A case of several channels names them in one cell, since cases.csv has one row a case.
    images = tuple(volumes / part.strip() for part in row["image"].split(";"))
    labelled = name_classes(row[LABELLED].split(";")) if is_mask and row.get(LABELLED) else None
    if row.get("source") or not row.get("series_uid"):
        return InferenceCase(case, images, label, labelled=labelled)
    from voxflow.dicom import list_origins  # takes long, and a case that is no DICOM needs none of it

    units = tuple(row["units"].split(CHANNEL_SEPARATOR)) if row.get("units") else ()
    return InferenceCase(case, images, label, list_origins(row), labelled=labelled, units=units)


def attach_sources(cases: Sequence[InferenceCase], source: Path, options: ConvertOptions) -> list[InferenceCase]:
    """Return the cases with the DICOM files that each of their images was made of, for those that were."""
    from voxflow.dicom import find_sources  # takes long, and cases of files need none of it

    origins = {origin for case in cases for origin in case.origins}
    files = find_sources(source, origins, options) if origins else {}
    return [replace(case, sources=tuple(files.get(origin) for origin in case.origins)) for case in cases]
