"""Reads a bundle's images by Voxflow's reader before MONAI does, so that a bundle is given what every other way takes.

MONAI looks at no checksum and at no NaN, and compares no grids. A label or a channel whose axes run otherwise than its
image's is written once more, turned.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError, InputError
from voxflow.executor import thread_map
from voxflow.progress import say, track
from voxflow.volumes import VOLUME_SUFFIXES, align, read_image, require_finite, round_labels, write_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from voxflow.bundle.parts import BundleItem
    from voxflow.geometry import Geometry
    from voxflow.volumes import Volume

MOST_FAULTS = 20


@contextmanager
def check_images(
    data: Mapping[str, list[BundleItem]], failures: list[dict[str, str]] | None = None
) -> Iterator[dict[str, list[BundleItem]]]:
    """Read all volumes that a bundle is given, and yield the items that it can be shown.

    Args:
        data: lists of items by id.
        failures: gets the file and the reason of each item that can't be used, which is left out; None: one such item
            is an error.

    Yields:
        The lists; turned labels and channels lie in a folder that goes when the block ends.

    Raises:
        DataError: an item can't be used, or none is left; the message names every file.
    """
    with tempfile.TemporaryDirectory(prefix="voxflow-turned-") as folder:
        jobs = [(items[n], Path(folder) / f"{key}{n}") for key, items in data.items() for n in range(len(items))]
        with thread_map(None) as run:
            results = list(track(run(lambda job: _check_item(*job), jobs), "checking images", total=len(jobs)))
        faults = [result for result in results if isinstance(result, InputError)]
        if faults and (failures is None or len(faults) == len(results)):
            more = [f"... and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
            raise DataError("\n".join([*map(str, faults[:MOST_FAULTS]), *more]))
        for (item, _), result in zip(jobs, results, strict=True):
            if isinstance(result, InputError) and failures is not None:
                say(f"warning: left out: {result}")
                failures.append({"case": _list_paths(item.get("image"))[0].name, "reason": str(result)})
        remaining = iter(results)
        checked = {key: [next(remaining) for _ in items] for key, items in data.items()}
        yield {key: [item for item in items if isinstance(item, dict)] for key, items in checked.items()}


def _check_item(item: BundleItem, folder: Path) -> BundleItem | InputError:
    images, labels = _list_paths(item.get("image")), _list_paths(item.get("label"))
    if not images or not images[0].name.lower().endswith(VOLUME_SUFFIXES):
        return item
    try:
        grid: Geometry | None = None
        paths: dict[str, list[str]] = {"image": [], "label": []}
        for name, files in (("image", images), ("label", labels)):
            for path in files:
                volumes = read_image([path])
                grid = grid or volumes[0].geometry
                for volume in volumes:
                    (round_labels if name == "label" else require_finite)(volume.array, path)
                paths[name].append(_turn(volumes, grid, path, folder))
    except InputError as error:
        return error
    changed = {name: files[0] if len(files) == 1 else files for name, files in paths.items() if files}
    return item | changed


def _turn(volumes: Sequence[Volume], grid: Geometry, path: Path, folder: Path) -> str:
    """The file itself, or a copy of it with its axes turned to the image's."""
    aligned = [align(volume, grid, path) for volume in volumes]
    if all(turned.array is volume.array for turned, volume in zip(aligned, volumes, strict=True)):
        return str(path)
    if len(aligned) > 1:
        message = "its axes run otherwise than its image's, and it holds several channels; write one file for each"
        raise DataError(message, path=path)
    copy = folder / f"{path.name.split('.')[0]}.nii.gz"
    write_volume(copy, aligned[0])
    return str(copy)


def _list_paths(value: Any) -> list[Path]:
    values = value if isinstance(value, list | tuple) else [value]
    return [Path(text) for text in values if isinstance(text, str)]
