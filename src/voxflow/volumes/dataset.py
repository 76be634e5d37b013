"""Resampling every case of a table to one grid: several cases at a time; a bad case is named and left out."""

from __future__ import annotations

import shutil
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import (
    LIBRARY_ERRORS,
    ClusterError,
    DataError,
    InputError,
    last_line_of,
    shorten,
)
from voxflow.executor import Threads
from voxflow.machine import count_cores
from voxflow.progress import track
from voxflow.volumes.alignment import align, round_labels
from voxflow.volumes.files import (
    DATA_SUFFIXES,
    HEADER_SUFFIX,
    read_geometry,
    read_radiograph,
    read_volume,
    write_radiograph,
    write_volume,
)
from voxflow.volumes.overlap import measure_outside, require_cover, require_overlap
from voxflow.volumes.resampling import resample
from voxflow.volumes.volume import require_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from voxflow.executor import Executor
    from voxflow.geometry import Geometry
    from voxflow.volumes.resample_options import ResampleOptions
    from voxflow.volumes.volume import Volume

CHANNEL_SEPARATOR = ";"
OUTSIDE = "outside"


def resample_cases(
    table: pd.DataFrame,
    source: Path,
    target: Path,
    options: ResampleOptions,
    executor: Executor | None = None,
    *,
    channels: Sequence[str] = (),
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Resample every case of a table; what can't be resampled is left out, with the reason.

    The channels of a case and its label come onto one grid, each by one interpolation.

    Args:
        table: one row a case with ``case``, ``image``, ``label`` and, where labels may overlap, ``label_channels``;
            paths are relative to ``source``, several in one cell are joined by ";".
        source: the folder that convert made.
        target: an empty folder; files keep their relative paths.
        options: the grid to bring them to.
        executor: who resamples; None: threads of this process.
        channels: names of the channels, where a case has several.

    Returns:
        The rows of the resampled cases with the new ``size``, ``spacing_mm`` and ``orientation``, and by case the
        reasons of those that can't be read, whose label lies on the grid of no channel, whose channels hardly overlap,
        or whose workers died. Where a channel does not reach all of the grid, or a label reaches beyond it, the column
        ``outside`` says which, and how much of the grid or of the label that is.

    Raises:
        ConfigError: ``options.onto`` names no channel.
        DataError: no case can be resampled; each is named with its reason.
        ClusterError: likewise, where the workers of all of them died.
    """
    onto = options.find_onto(channels)
    jobs = [_Job(row, source, target, options, tuple(channels), onto) for row in table.to_dict("records")]
    results = _run_jobs(jobs, executor or Threads(options.workers or count_cores()), target)
    is_resampled = [not isinstance(result, _Fault) for result in results]
    faults = {str(job.row["case"]): r for job, r in zip(jobs, results, strict=True) if isinstance(r, _Fault)}
    if not any(is_resampled):
        lines = [f"{len(faults)} case(s) can't be resampled", *(f"{name}: {f.reason}" for name, f in faults.items())]
        raise (ClusterError if all(fault.is_lost for fault in faults.values()) else DataError)("\n".join(lines))
    resampled = table[is_resampled].copy()
    rows = [job.row | result for job, result in zip(jobs, results, strict=True) if not isinstance(result, _Fault)]
    is_cut = any(row.get(OUTSIDE) for row in rows)
    for column in ("size", "spacing_mm", "orientation", *((OUTSIDE,) if is_cut else ())):
        resampled[column] = [row.get(column, "") for row in rows]
    if faults:
        _remove_unlisted(target, rows)
    return resampled, {name: fault.reason for name, fault in faults.items()}


@dataclass(frozen=True)
class _Job:
    """One row of the table, and what to do with it."""

    row: dict[Any, Any]
    source: Path
    target: Path
    options: ResampleOptions
    channels: tuple[str, ...] = ()
    onto: int = 0


@dataclass(frozen=True)
class _Fault:
    """Why a case can't be resampled."""

    reason: str
    is_lost: bool = False


def _run_jobs(jobs: Sequence[_Job], executor: Executor, target: Path) -> list[dict[str, str] | _Fault]:
    with (
        _limit_to_one_thread(),
        closing(executor.run(_resample_case, jobs, _report_lost, into=target)) as numbered_results,
    ):
        result_by_number = dict(track(numbered_results, "resampling", total=len(jobs)))
    return [result_by_number[number] for number in range(len(jobs))]


def _resample_case(job: _Job) -> dict[str, str] | _Fault:
    """Resample one case; gives what changes in its row.

    Raises:
        OSError: a file can't be written, which is no case's fault.
    """
    work = _resample_radiographs if str(job.row["image"]).endswith(".png") else _resample_volumes
    with _limit_to_one_thread():
        try:
            return work(job)
        except InputError as error:
            return _Fault(str(error))
        except LIBRARY_ERRORS as error:
            return _Fault(shorten(f"{type(error).__name__}: {last_line_of(error)}"))


def _remove_unlisted(target: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Remove what was written of cases that were given up half way."""
    listed = {target / name for row in rows for name in _list_files(row)}
    # The voxels of a .mhd lie beside it.
    listed |= {path.with_suffix(suffix) for path in listed for suffix in DATA_SUFFIXES if path.suffix == HEADER_SUFFIX}
    for path in [path for path in target.rglob("*") if path.is_file() and path not in listed]:
        path.unlink()


def _report_lost(_job: _Job, reason: str) -> _Fault:
    return _Fault(reason, is_lost=True)


@contextmanager
def _limit_to_one_thread() -> Iterator[None]:
    """Keep SimpleITK to one thread a case in this process: several cases at a time share the cores better."""
    import SimpleITK as sitk

    thread_count = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(thread_count)


def _resample_volumes(job: _Job) -> dict[str, str]:
    names = str(job.row["image"]).split(CHANNEL_SEPARATOR)
    if job.onto >= len(names):
        raise DataError(f"lacks the channel {job.options.onto}, whose grid the others are brought to")
    first = read_geometry(job.source / names[job.onto])
    grid = job.options.choose_grid(first)
    outside: dict[str, float] = {}
    grids = {
        name_channel(job.channels, n): first if n == job.onto else read_geometry(job.source / name)
        for n, name in enumerate(names)
    }
    require_overlap(grids)
    for channel, image_grid in grids.items():
        require_cover(channel, image_grid, first)
    for channel, name in zip(grids, names, strict=True):
        outside[channel] = _resample_channel(job, name, first, grid)
    for name in _list_labels(job.row):
        share = _resample_label(job, name, first, grid, list(grids.values()))
        outside["label"] = max(share, outside.get("label", 0.0))
    return {
        "size": " ".join(map(str, grid.size)),
        "spacing_mm": " ".join(f"{value:g}" for value in grid.spacing),
        "orientation": grid.orientation,
        OUTSIDE: "; ".join(f"{name}: {share:.1%}" for name, share in outside.items() if share),
    }


def _list_files(row: dict[str, Any]) -> list[str]:
    return [*str(row["image"]).split(CHANNEL_SEPARATOR), *_list_labels(row)]


def name_channel(channels: Sequence[str], number: int) -> str:
    """Return a channel's name, or its number from 1 where nobody named it.

    Example:
        >>> name_channel(["T1", "T2"], 1), name_channel([], 1)
        ('T2', 'channel 2')
    """
    return channels[number] if number < len(channels) else f"channel {number + 1}"


def _resample_channel(job: _Job, name: str, first: Geometry, grid: Geometry) -> float:
    """Write one channel; gives the share of the grid that a channel of another grid does not reach."""
    source, target = job.source / name, job.target / name
    image = read_volume(source)
    require_finite(image.array, source)
    is_on_first = image.geometry.find_axes(first) is not None
    if is_on_first:
        image = align(image, first, source)
    if not _copy_if_on_grid(image, grid, source, target):
        # Outside the image nothing was measured: the darkest value seen is the least surprising.
        darkest = float(image.array.min())
        options = job.options
        write_volume(target, resample(image, grid, options.interpolation, darkest, antialias=options.antialias))
    return 0.0 if is_on_first else measure_outside(image.geometry, grid)


def _resample_label(job: _Job, name: str, first: Geometry, grid: Geometry, grids: Sequence[Geometry]) -> float:
    """Write a label, which lies on the grid of any channel; gives the share of it that lies beyond the new grid."""
    source, target = job.source / name, job.target / name
    label = read_volume(source)
    of_channel = next((g for g in (first, *grids) if label.geometry.find_axes(g) is not None), first)
    label = align(label, of_channel, source)
    round_labels(label.array, source)
    if not _copy_if_on_grid(label, grid, source, target):
        write_volume(target, resample(label, grid, job.options.label_interpolation))
    if of_channel is first:
        return 0.0
    voxels = np.argwhere(label.array != 0)
    indices = grid.to_index(of_channel.to_physical(voxels.astype(np.float64)))
    is_inside = ((indices >= -0.5) & (indices <= np.array(grid.size) - 0.5)).all(axis=1)
    return 1 - float(is_inside.mean()) if len(voxels) else 0.0


def _list_labels(row: dict[str, Any]) -> list[str]:
    """The label volume of a case, and its channels where labels may overlap."""
    cells = (row.get("label"), row.get("label_channels"))
    return [name for text in cells if isinstance(text, str) and text for name in text.split(CHANNEL_SEPARATOR)]


def _copy_if_on_grid(volume: Volume, grid: Geometry, source: Path, target: Path) -> bool:
    """Whether a volume is on the grid already; its file is then copied as it is, if it states that grid itself."""
    is_on_grid = volume.geometry.is_close(grid, tolerance_mm=1e-6)
    if not is_on_grid:
        return False
    # The voxels of a .mhd lie in a file of their own, whose name the header holds.
    if source.name.lower().endswith(HEADER_SUFFIX) or not read_geometry(source).is_close(grid, tolerance_mm=1e-6):
        write_volume(target, volume)
    else:
        _copy_file(source, target)
    return True


def _resample_radiographs(job: _Job) -> dict[str, str]:
    row, source, target, options = job.row, job.source, job.target, job.options
    shapes: list[tuple[int, ...]] = []
    for name in str(row["image"]).split(CHANNEL_SEPARATOR):
        image = read_radiograph(source / name)
        shapes.append(image.shape)
        if options.size is None or image.shape == options.size:
            _copy_file(source / name, target / name)
        else:
            write_radiograph(target / name, resize_radiograph(image, options.size))
    size = options.size or shapes[0]
    return {"size": " ".join(map(str, size)), "spacing_mm": _scale_spacing(row.get("spacing_mm"), shapes[0], size)}


def _scale_spacing(spacing: Any, old: tuple[int, ...], new: tuple[int, ...]) -> str:
    """The pixel spacing after resizing, "rows columns" in mm; empty where it was not known."""
    old_spacing = spacing.split() if isinstance(spacing, str) else []
    if len(old_spacing) != len(new):
        return ""
    return " ".join(
        f"{float(mm) * old_count / new_count:g}" for mm, old_count, new_count in zip(old_spacing, old, new, strict=True)
    )


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def resize_radiograph(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Bring a radiograph to another size; smaller sizes are averaged over the area that a new pixel covers.

    Args:
        image: (rows, columns), uint8 or uint16; the type is kept.
        size: (rows, columns) of the result; the aspect ratio follows it.
    """
    from PIL import Image

    rows, columns = size
    resized = Image.fromarray(image.astype(np.float32)).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(np.rint(np.asarray(resized)).astype(image.dtype))
