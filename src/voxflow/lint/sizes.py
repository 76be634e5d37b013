"""Sizes: patches and windows against the network's strides and the volumes' own sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.components import FieldUser, Network, Pipeline
from voxflow.lint.flow import follow_grid

if TYPE_CHECKING:
    from voxflow.lint.data import WorkspaceData
    from voxflow.lint.headers import ImageHeader
    from voxflow.lint.listing import ListedCase
    from voxflow.lint.reading import ConfigReading, PlacedComponent


def check_sizes(reading: ConfigReading, data: WorkspaceData) -> None:
    """Note patches and windows that the network can't take, or that are larger than volumes of the datalist.

    Args:
        reading: the configuration of training or of evaluation.
        data: the workspace's data.
    """
    network = reading.part_of("train", "model")
    model = network.model if network and isinstance(network.model, Network) else None
    for section in ("train", "validate", "evaluate"):
        chain = [*reading.parts_of(section, "pre_transforms"), *reading.parts_of(section, "transforms")]
        pipeline = reading.part_of(section, "image_pipeline")
        crops = [part for part in chain if _patch_size(part)]
        sizes = [(part.argument("size"), _patch_size(part)) for part in crops[-1:]]
        cropped = _output_size(pipeline)
        if pipeline and cropped and -1 not in cropped:
            sizes.append((pipeline.argument("output_crop_size"), cropped))
            _check_handed_on(reading, crops, pipeline, cropped)
        sizes += _window_size(reading, section)
        if model:
            for json_path, size in sizes:
                _check_axes(reading, json_path, size, model)
            # Where the crop of the pipeline follows, that is what the network sees.
            for json_path, size in sizes if model.spatial_dims == 3 else []:
                _check_strides(reading, json_path, size, model)
            _check_whole(reading, section, chain, model, data)
        for crop in crops:
            _check_volumes(reading, section, chain, crop, data)


def _patch_size(part: PlacedComponent) -> tuple[int, ...] | None:
    return part.model.patch() if part.kind == "transform" and isinstance(part.model, FieldUser) else None


def _output_size(pipeline: PlacedComponent | None) -> tuple[int, ...] | None:
    return pipeline.model.output_crop_size if pipeline and isinstance(pipeline.model, Pipeline) else None


def _window_size(reading: ConfigReading, section: str) -> list[tuple[str, tuple[int, ...] | None]]:
    inferer = reading.part_of(section, "inferer")
    size = getattr(inferer.model, "roi_size", None) if inferer else None
    return [(inferer.argument("roi_size"), size)] if inferer and size else []


def _check_axes(reading: ConfigReading, json_path: str, size: tuple[int, ...] | None, network: Network) -> None:
    if size and len(size) != network.spatial_dims:
        message = f"{list(size)} has {len(size)} axes, {network.component_name()} takes {network.spatial_dims}"
        reading.notes.error("axes", json_path, message, f"give {network.spatial_dims} values")


def _check_strides(reading: ConfigReading, json_path: str, size: tuple[int, ...] | None, network: Network) -> None:
    if not size or len(size) != 3:
        return
    pairs = list(zip(size, network.divisors, strict=True))
    if not any(n % divisor for n, divisor in pairs):
        return
    below = [max(divisor, n - n % divisor) for n, divisor in pairs]
    above = [-(-n // divisor) * divisor for n, divisor in pairs]
    fix = f"write {above}" if below == above else f"write {below} or {above}"
    message = f"size {list(size)} is no multiple of {network.divisor}, which {network.component_name()} needs"
    reading.notes.error("patch-divisor", json_path, message, fix)


def _check_handed_on(
    reading: ConfigReading, crops: list[PlacedComponent], pipeline: PlacedComponent, cropped: tuple[int, ...]
) -> None:
    patch = _patch_size(crops[-1]) if crops else None
    if patch and len(patch) == len(cropped) and patch != cropped:
        message = f"{list(cropped)}, but {crops[-1].name} makes {list(patch)}: the rest is cut off or filled with 0"
        reading.notes.warning("crop-size", pipeline.argument("output_crop_size"), message, f"write {list(patch)}")


def _check_whole(
    reading: ConfigReading, section: str, chain: list[PlacedComponent], network: Network, data: WorkspaceData
) -> None:
    """Whole volumes in one pass must fit the network's strides, too."""
    inferer, pipeline = reading.part_of(section, "inferer"), reading.part_of(section, "image_pipeline")
    whole = _output_size(pipeline)
    if inferer is None or "Simple" not in inferer.name or whole is None or set(whole) != {-1}:
        return
    sizes = [(item, _grid_at_end(chain, header)) for item, header in data.grids(section)]
    odd = [(item, size) for item, size in sizes if size and any(n % network.divisor for n in size)]
    if odd and network.spatial_dims == 3:
        item, size = odd[0]
        message = (
            f"whole volumes in one pass, but {len(odd)} of {len(sizes)} are no multiple of {network.divisor} "
            f"({item.json_path}: {list(size or ())}), which {network.component_name()} needs"
        )
        reading.notes.error("patch-divisor", inferer.where, message, "use TFScanWindowInferer with a roi_size")


def _grid_at_end(chain: list[PlacedComponent], header: ImageHeader) -> tuple[int, ...] | None:
    if not chain:
        return header.size
    last = chain[-1]
    grid = follow_grid(chain, last, (header.size, header.spacing))
    after = last.model.grid_after(grid) if grid and isinstance(last.model, FieldUser) else None
    return (_patch_size(last) or after[0]) if after else None


def _check_volumes(
    reading: ConfigReading, section: str, chain: list[PlacedComponent], crop: PlacedComponent, data: WorkspaceData
) -> None:
    size = _patch_size(crop)
    small: list[tuple[ListedCase, tuple[int, ...]]] = []
    grids = data.grids(section)
    for item, header in grids:
        grid = follow_grid(chain, crop, (header.size, header.spacing))
        if grid and size and len(grid[0]) == len(size) and any(n < m for n, m in zip(grid[0], size, strict=True)):
            small.append((item, grid[0]))
    if small and size:
        item, least = min(small, key=lambda volume: min(n / m for n, m in zip(volume[1], size, strict=True)))
        message = (
            f"patch {list(size)} is larger than {len(small)} of {len(grids)} volumes, the smallest of them "
            f"{list(least)} ({item.json_path}); what is missing is filled with 0"
        )
        reading.notes.warning("patch-larger", crop.argument("size"), message, "take a smaller patch")
