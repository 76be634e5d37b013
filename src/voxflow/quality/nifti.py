"""Owns finding NaN and infinity in NIfTI files: the reader below SimpleITK silently turns them into zeros."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

HEADER_SIZE = 348
# Offsets in the NIfTI-1 header: datatype (int16) and vox_offset (float32).
_DATATYPE, _VOX_OFFSET = 70, 108
_FLOATS = {16: "f4", 64: "f8"}


def holds_only_finite_values(path: Path) -> bool:
    """Whether every stored value is a finite number; True for files that are no NIfTI-1 of floats.

    Raises:
        OSError: the file can't be read or decompressed.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        return True
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as stream:
        header = stream.read(HEADER_SIZE)
        order = next((sign for sign in "<>" if header[:4] == struct.pack(f"{sign}i", HEADER_SIZE)), None)
        if order is None:
            return True
        code = _FLOATS.get(struct.unpack_from(f"{order}h", header, _DATATYPE)[0])
        if code is None:
            return True
        stream.seek(int(struct.unpack_from(f"{order}f", header, _VOX_OFFSET)[0]))
        content = stream.read()
    values = np.frombuffer(content, dtype=f"{order}{code}", count=len(content) // int(code[1]))
    return bool(np.isfinite(values).all())
