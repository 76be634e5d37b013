"""The limits on what one input may ask for, and the checks that hold a claim against them before memory is taken.

A header is a claim: a file of a few kilobytes may claim terabytes of voxels, or voxels so large that a network's grid
over them has billions. Whatever reads a header asks here first. The limits stand under ``limits`` of the params.yaml of
the folder that a program works in, and count for all of its workspaces; without one, the defaults count. No stage
depends on them: a higher limit changes nothing that was made already.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from voxflow.errors import DataError
from voxflow.files import read_text
from voxflow.findings import FindingCollector, nearest_name, show, suggest
from voxflow.texts import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PARAMS = Path("params.yaml")
KEY = "limits"
MB = 1 << 20
# Below, a file may be compressed, and an image be refined, as much as it likes: neither takes long.
FREE_BYTES = 1 << 30
FREE_VOXELS = 8_000_000
LEAST_SPACING_MM = 1e-5


class Limits(BaseModel):
    """The key ``limits`` of params.yaml: the most that one input may ask for.

    Attributes:
        image_mb: decoded bytes of one image, all of its channels and frames (MiB). A CT of 512 × 512 × 2200 has 1100.
        voxels: of one image and channel, as it is stored and on the grid that it is resampled to. The same CT.
        pixels: of one picture (PNG, JPEG, TIFF, BMP). A mammogram has 30 million; Pillow warns from 89 million on.
        expansion: decoded bytes for each byte of a file, where an image has more than 1 GiB: deflate makes 1000 of
            one where all are zero. Scans have 2 to 4, masks up to 1000.
        upsampling: new voxels for each voxel of an image, where the new grid has more than 8 million. Slices of 5 mm
            on a grid of 1 mm make 5, SPECT of 5 mm on one of 1 mm makes 125.
        spacing_mm: between two voxels. The thickest slices have 20.
        extent_mm: of an image along one axis. A whole body has 2000.
        position_mm: of a voxel from the origin, along one axis. Scanners have less than 5000; beyond 100,000 the single
            precision of a NIfTI header is coarser than 0.01 mm.
        upload_mb: of one upload (MiB).
        unpacked_mb: of what an upload unpacks to (MiB).
        upload_files: in one upload.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_mb: PositiveInt = 4096
    voxels: PositiveInt = 600_000_000
    pixels: PositiveInt = 100_000_000
    expansion: PositiveInt = 200
    upsampling: PositiveInt = 250
    spacing_mm: PositiveFloat = 100.0
    extent_mm: PositiveFloat = 5000.0
    position_mm: PositiveFloat = 100_000.0
    upload_mb: PositiveInt = 1024
    unpacked_mb: PositiveInt = 4096
    upload_files: PositiveInt = 20_000


def read_limits(path: Path = PARAMS) -> Limits:
    """Read the limits that count in the present folder: those of its params.yaml, else the defaults.

    The file is read again when it has changed; so this may be asked for each image.

    Raises:
        ConfigError: the file can't be read, or its limits are wrong.
    """
    try:
        status = path.stat()
    except OSError:
        return Limits()
    return _read_limits(path.absolute(), status.st_mtime_ns, status.st_size)


def parse_limits(content: Mapping[Any, Any], path: Path = PARAMS) -> Limits:
    """Read the limits of the content of a params.yaml; where there are none, the defaults.

    Raises:
        ConfigError: a key is unknown, or a value is no positive number; all are named at once.

    Example:
        >>> parse_limits({"limits": {"voxels": 1000}}).voxels
        1000
        >>> parse_limits({"limits": {"voxel": 1000}})
        Traceback (most recent call last):
        ...
        voxflow.findings.FaultyConfigError: 1 wrong limit(s)
        params.yaml: limits.voxel: unknown limit 'voxel'; did you mean 'voxels'?
    """
    findings = FindingCollector(path)
    for key in content:
        if key != KEY and nearest_name(str(key).lower(), [KEY], cutoff=0.8):
            findings.error("unknown-key", str(key), f"unknown key {key!r}", suggest(str(key), [KEY]))
    values = content.get(KEY) or {}
    limits = Limits()
    if isinstance(values, dict):
        for key in values.keys() - Limits.model_fields.keys():
            advice = suggest(str(key), Limits.model_fields)
            findings.error("unknown-key", f"{KEY}.{key}", f"unknown limit {show(key)}", advice)
        values = {key: values[key] for key in values if key in Limits.model_fields}
    try:
        limits = Limits.model_validate(values)
    except ValidationError as error:
        findings.add_validation(error, KEY)
    findings.raise_errors(f"{len(findings.errors)} wrong limit(s)")
    return limits


def check_array(shape: Sequence[int], voxel_bytes: int, *, file_bytes: int | None = None) -> None:
    """Hold the size that a header claims against the limits, before memory is taken.

    Args:
        shape: voxels along each axis; the axes after the third are channels or frames.
        voxel_bytes: of one voxel as it is decoded, with all of its colours.
        file_bytes: what the compressed voxels have on the disk; None: they are not compressed, or that is not known.

    Raises:
        DataError: it is more than may be taken; the message has the limit and its key.

    Example:
        >>> check_array((512, 512, 300), 2)
        >>> check_array((30000, 30000, 30000), 2)
        Traceback (most recent call last):
        ...
        voxflow.errors.DataError: its header claims 30000 × 30000 × 30000 voxels: ...
    """
    limits = read_limits()
    counts = [int(count) for count in shape]
    size = " × ".join(map(str, counts))
    voxels = math.prod(counts[:3])
    if voxels > limits.voxels:
        raise DataError(f"its header claims {size} voxels: {_explain(voxels, limits.voxels, 'voxels')}")
    byte_count = math.prod(counts) * voxel_bytes
    if byte_count > limits.image_mb * MB:
        megabytes = math.ceil(byte_count / MB)
        raise DataError(f"its header claims {size} voxels, in MB: {_explain(megabytes, limits.image_mb, 'image_mb')}")
    if file_bytes is not None and byte_count > max(FREE_BYTES, limits.expansion * file_bytes):
        factor = math.ceil(byte_count / max(1, file_bytes))
        most = _explain(factor, limits.expansion, "expansion")
        raise DataError(f"its header claims {size} voxels, for each byte of the file: {most} bytes")


def check_picture(rows: int, columns: int) -> None:
    """Hold the size that a picture's header claims against the limits, before it is decoded.

    Raises:
        DataError: it has more pixels than may be taken.
    """
    most = read_limits().pixels
    if rows * columns > most:
        raise DataError(f"its header claims {rows} × {columns} pixels: {_explain(rows * columns, most, 'pixels')}")


def check_grid(size: Sequence[int], spacing_mm: Sequence[float], origin_mm: Sequence[float] = ()) -> None:
    """Refuse a grid that no scanner makes: lengths that are no numbers, not positive, or absurd.

    Args:
        size: voxels along each axis.
        spacing_mm: between two of them along each axis.
        origin_mm: position of the first voxel's centre; empty where it is not known.

    Raises:
        DataError: names the length, the limit and its key.

    Example:
        >>> check_grid((512, 512, 300), (0.8, 0.8, 3), (-200, -180, 90))
        >>> check_grid((512, 512, 300), (0.8, 0.8, 1e300))
        Traceback (most recent call last):
        ...
        voxflow.errors.DataError: voxels are 0.8 × 0.8 × 1e+300 mm apart: at most 100 mm are taken ...
    """
    limits = read_limits()
    steps = [float(step) for step in spacing_mm]
    text = " × ".join(f"{step:g}" for step in steps)
    if not all(math.isfinite(step) and step >= LEAST_SPACING_MM for step in steps):
        raise DataError(f"voxels are {text} mm apart; each is a number from {LEAST_SPACING_MM:g} on")
    if max(steps) > limits.spacing_mm:
        raise DataError(f"voxels are {text} mm apart: {_explain_mm(limits.spacing_mm, 'spacing_mm')}")
    extent = max(count * step for count, step in zip(size, steps, strict=True))
    if extent > limits.extent_mm:
        raise DataError(f"the image is {extent:g} mm long: {_explain_mm(limits.extent_mm, 'extent_mm')}")
    if not all(math.isfinite(place) and abs(place) <= limits.position_mm for place in origin_mm):
        places = ", ".join(f"{place:g}" for place in origin_mm)
        raise DataError(f"the image begins at ({places}) mm: {_explain_mm(limits.position_mm, 'position_mm')}")


def check_resampling(size: Sequence[int], new_size: Sequence[float]) -> None:
    """Refuse a new grid that has far more voxels than its image, before memory is taken for it.

    Args:
        size: voxels of the image along each axis.
        new_size: those of the grid that it would be resampled to; floats, since they may be beyond what integers hold.

    Raises:
        DataError: names the size, the limit and its key.

    Example:
        >>> check_resampling((512, 512, 60), (512, 512, 300))
        >>> check_resampling((32, 32, 32), (1600, 1600, 1600))
        Traceback (most recent call last):
        ...
        voxflow.errors.DataError: 32 × 32 × 32 voxels would become 1600 × 1600 × 1600: ...
    """
    limits = read_limits()
    voxels, new_voxels = math.prod(size), math.prod(map(float, new_size))
    change = f"{' × '.join(map(str, size))} voxels would become {' × '.join(f'{count:.0f}' for count in new_size)}"
    if not new_voxels <= limits.voxels:
        raise DataError(f"{change}: {_explain(new_voxels, limits.voxels, 'voxels')}")
    if new_voxels > max(FREE_VOXELS, limits.upsampling * voxels):
        factor = new_voxels / max(1, voxels)
        raise DataError(f"{change}, for each of them: {_explain(factor, limits.upsampling, 'upsampling')}")


@lru_cache(maxsize=8)
def _read_limits(path: Path, _modified: int, _bytes: int) -> Limits:
    content = parse_yaml(read_text(path), path)
    return parse_limits(content if isinstance(content, dict) else {}, path)


def _explain(amount: float, most: float, key: str) -> str:
    return f"{amount:,.0f}, at most {most:,} are taken ({KEY}.{key} in {PARAMS})"


def _explain_mm(most: float, key: str) -> str:
    return f"at most {most:g} mm are taken ({KEY}.{key} in {PARAMS})"
