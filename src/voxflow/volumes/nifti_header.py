"""What a NIfTI-1 header says: size, voxel type, scaling, and where the voxels lie, by the rule that nibabel follows.

A header states the grid in two ways, which may differ. The sform counts where its code is positive, else the qform
where its code is, else the steps alone with the middle of the image at 0 (nibabel's get_best_affine). Both ways go with
the grid, so that a mask on it can state both again.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.bounds import check_grid
from voxflow.errors import DataError
from voxflow.geometry import LPS_TO_RAS, Geometry, NiftiForms
from voxflow.volumes.volume import require_right_angles

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_BYTES = 348
MOST_OFFSET = 1 << 26  # bytes of a header with its extensions; those of AFNI take a few megabytes
DATATYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
_COLOURS = {128: 3, 2304: 4}  # RGB and RGBA, one byte a colour
NO_COMPLEX = "unreadable image: a voxel holds a complex number; save magnitude or phase as an image of its own"
_COMPLEX = (32, 1792, 2048)
_REFUSED = {1: "single bits", 1536: "128-bit floats"}
_UNIT_MM = {1: 1000.0, 3: 0.001}  # metres and micrometres; all else is taken for millimetres
HIGHEST_CODE = 5  # of qform_code and sform_code; others state nothing
_QUATERNION_SLACK = 3 * float(np.finfo(np.float32).eps)  # nibabel's: what single precision takes from a length of 1
# Two ways that differ by less mean the same place: a qform near half a turn loses a quarter of a voxel to rounding.
FORMS_TOLERANCE = 0.5


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI-1 header says of the voxels that follow it.

    Attributes:
        size: voxels along (i, j, k, ...), as many axes as the header states.
        dtype: of one number, with its byte order.
        components: numbers a voxel: 3 or 4 for colours, else 1.
        offset: of the first voxel in the uncompressed data, bytes.
        scale: slope and intercept; (1, 0) where nothing is scaled.
        forms: how the grid is stated.
        is_pair: the voxels stand in a file of their own (.img).
    """

    size: tuple[int, ...]
    dtype: np.dtype[np.generic]
    components: int
    offset: int
    scale: tuple[float, float]
    forms: NiftiForms
    is_pair: bool = False

    @property
    def voxel_bytes(self) -> int:
        """Bytes of one voxel."""
        return self.components * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.size) * self.voxel_bytes

    @property
    def axes(self) -> int:
        """Number of axes; from the fourth on, axes of one voxel at the end don't count."""
        longer = [axis for axis, count in enumerate(self.size, 1) if count > 1 and axis > 3]
        return max(min(len(self.size), 3), *longer, 0)

    @property
    def channels(self) -> int:
        """Values a voxel: colours, or the volumes of a fourth axis or beyond."""
        return math.prod(self.size[3:]) * self.components

    def read_geometry(self) -> Geometry:
        """Compute the grid of the first three axes, LPS, mm.

        Raises:
            DataError: there are fewer axes, the affine is absurd or singular, or its axes are far from perpendicular.
        """
        if len(self.size) < 3:
            raise DataError(
                f"expected a 3D image with one value a voxel, received {len(self.size)}D with {self.components}"
            )
        size = (self.size[0], self.size[1], self.size[2])
        with np.errstate(invalid="ignore", over="ignore"):
            affine = _compute_affine(self.forms, size)
        if not np.isfinite(affine).all():
            raise DataError("unreadable image: its affine holds NaN or infinite values")
        geometry = Geometry(size, LPS_TO_RAS @ affine, self.forms)
        check_grid(size, geometry.spacing, geometry.origin)
        require_right_angles(geometry)
        return geometry


def parse_header(header: bytes) -> NiftiHeader:
    """Read the 348 bytes of a header, in either byte order.

    Raises:
        DataError: it is no NIfTI-1 header, or states what can't be read.
    """
    order = next((o for o in "<>" if header[:4] == struct.pack(f"{o}i", HEADER_BYTES)), "")
    if any(header[:4] == struct.pack(f"{o}i", 540) for o in "<>"):
        raise DataError("unreadable image: NIfTI-2, which few tools read; save it as NIfTI-1")
    magic = header[344:348]
    if not order or magic not in (b"n+1\0", b"ni1\0"):
        raise DataError("unreadable image: no NIfTI-1 header")
    sizes = struct.unpack(f"{order}8h", header[40:56])
    size = sizes[1 : 1 + sizes[0]]
    if not 1 <= sizes[0] <= 7 or min(size) < 1:
        raise DataError(f"unreadable image: its header claims the size {list(sizes)}")
    (datatype,) = struct.unpack(f"{order}h", header[70:72])
    dtype, components = _find_dtype(datatype, order), _COLOURS.get(datatype, 1)
    (bits,) = struct.unpack(f"{order}h", header[72:74])
    if bits not in (0, 8 * components * dtype.itemsize):
        raise DataError(
            f"unreadable image: its header claims {bits} bits a voxel, its type {datatype} has another size"
        )
    offset, slope, intercept = struct.unpack(f"{order}3f", header[108:120])
    is_pair = magic == b"ni1\0"
    if not (0 if is_pair else HEADER_BYTES) <= offset <= MOST_OFFSET:
        raise DataError(f"unreadable image: its header claims that the voxels begin at byte {offset:g}")
    return NiftiHeader(
        size=size,
        dtype=dtype,
        components=components,
        offset=int(offset),
        scale=_read_scale(slope, intercept),
        forms=_parse_forms(header, order),
        is_pair=is_pair,
    )


def describe_forms(geometry: Geometry) -> str:
    """Say that qform and sform place a grid differently; empty where they agree, or only one is stated.

    Example:
        >>> describe_forms(Geometry.from_parts((4, 4, 4), (1, 1, 1)))
        ''
    """
    forms = geometry.forms
    if forms is None or not 0 < forms.sform_code <= HIGHEST_CODE or not 0 < forms.qform_code <= HIGHEST_CODE:
        return ""
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*geometry.size, 1]
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            other = _compute_qform(forms)
        is_readable = bool(np.isfinite(other).all())
    except DataError:
        is_readable = False
    if not is_readable:
        return f"its qform (code {forms.qform_code}) can't be read; the sform (code {forms.sform_code}) is taken"
    distance = float(np.linalg.norm((corners @ (other - geometry.affine_ras).T)[:, :3], axis=1).max())
    if distance <= FORMS_TOLERANCE * min(geometry.spacing):
        return ""
    return (
        f"its qform (code {forms.qform_code}) and sform (code {forms.sform_code}) place it up to {distance:.2f} mm "
        "apart; the sform is taken"
    )


def _find_dtype(datatype: int, order: str) -> np.dtype[np.generic]:
    if datatype in _COLOURS:
        return np.dtype("u1")
    name = {number: name for name, number in DATATYPES.items()}.get(datatype)
    if datatype in _COMPLEX:
        raise DataError(NO_COMPLEX)
    if name is None:
        content = _REFUSED.get(datatype, f"voxels of the unknown type {datatype}")
        raise DataError(f"unreadable image: it holds {content}; save it as whole numbers or 32-bit floats")
    return np.dtype(f"{order}{name}")


def _read_scale(slope: float, intercept: float) -> tuple[float, float]:
    """A slope of 0 means that nothing is scaled; one that is no number can mean nothing else."""
    if not slope or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise DataError(f"unreadable image: its values are scaled by {slope:g} and moved by {intercept}")
    return slope, intercept


def _parse_forms(header: bytes, order: str) -> NiftiForms:
    pixdim = struct.unpack(f"{order}4f", header[76:92])
    qform_code, sform_code = struct.unpack(f"{order}2h", header[252:256])
    numbers = struct.unpack(f"{order}18f", header[256:328])
    return NiftiForms(qform_code, sform_code, pixdim, numbers[:6], numbers[6:], header[123] & 7)


def _compute_affine(forms: NiftiForms, size: tuple[int, int, int]) -> NDArray[np.float64]:
    """The affine in RAS, mm."""
    if 0 < forms.sform_code <= HIGHEST_CODE:
        affine = np.vstack([np.reshape(forms.rows, (3, 4)), [0, 0, 0, 1]]).astype(np.float64)
        affine[:3] *= _UNIT_MM.get(forms.units, 1.0)
        return affine
    if 0 < forms.qform_code <= HIGHEST_CODE:
        return _compute_qform(forms)
    affine = np.diag([*(_read_steps(forms) * [-1, 1, 1]), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(size) - 1) / 2
    affine[:3] *= _UNIT_MM.get(forms.units, 1.0)
    return affine


def _compute_qform(forms: NiftiForms) -> NDArray[np.float64]:
    b, c, d, *offset = forms.quaternion
    rest = 1 - (b * b + c * c + d * d)
    if not math.isfinite(rest) or rest < -_QUATERNION_SLACK:
        raise DataError(f"unreadable image: its quaternion ({b:g}, {c:g}, {d:g}) is no rotation")
    # Within what single precision takes from a length of 1 nothing is left, as nibabel has it.
    a = math.sqrt(rest) if rest >= _QUATERNION_SLACK else 0.0
    scale = 2 / (a * a + b * b + c * c + d * d)
    rotation = np.array([
        [1 - scale * (c * c + d * d), scale * (b * c - a * d), scale * (b * d + a * c)],
        [scale * (b * c + a * d), 1 - scale * (b * b + d * d), scale * (c * d - a * b)],
        [scale * (b * d - a * c), scale * (c * d + a * b), 1 - scale * (b * b + c * c)],
    ])  # fmt: skip
    # qfac: -1 where the third axis points back; all else is 1.
    qfac = -1.0 if forms.pixdim[0] == -1 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * (_read_steps(forms) * [1, 1, qfac])
    affine[:3, 3] = offset
    affine[:3] *= _UNIT_MM.get(forms.units, 1.0)
    return affine


def _read_steps(forms: NiftiForms) -> NDArray[np.float64]:
    """The steps along (i, j, k); a step of 0 says nothing and is 1, as nibabel has it."""
    steps = np.abs(np.array(forms.pixdim[1:], dtype=np.float64))
    return np.where(steps == 0, 1.0, steps)
