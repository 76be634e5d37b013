"""Writes and reads files of torch: the same content gives the same bytes, and no code of a file is run."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import atomic_path, report_failed_write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ADVICE = (
    "it can't be read without running code that it holds, and Voxflow runs no code of a file of weights; with the "
    "program that wrote it, save the tensors alone: torch.save(model.state_dict(), FILE)"
)
# What torch 2.13 says of a pickle that names more than tensors; its own advice is to switch the check off.
_REFUSED = re.compile(r"weights_only|weights only", re.IGNORECASE)
_NEEDED = re.compile(r"(?:GLOBAL |Can only \w+ \S+ \S+ got )(?:<class ')?([\w.]+)")


@contextmanager
def open_torch_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a stream for torch to write to; the file is whole or as it was.

    torch calls the archive in a file after the file, whose name is a random one until it is whole; it calls that of a
    stream ``archive``. A full disk is an error of a stream, where TorchScript ends the process.

    Raises:
        OSError: the disk is full, say.
    """
    # torch's own writer says nothing of the disk; a full one is by far the likeliest.
    with atomic_path(path) as temporary, report_failed_write(path), temporary.open("wb") as stream:
        yield stream


def save_torch(path: Path, content: Any) -> None:
    """Write with torch.save, whole or not at all.

    Raises:
        OSError: the disk is full, say; an older file stays.
    """
    import torch

    with open_torch_file(path) as stream:
        torch.save(content, stream)


def read_torch(path: Path, expected: str, *, mmap: bool = False, allowed: Sequence[Any] = ()) -> Any:
    """Read a file of torch.save onto the CPU, without running any code that it holds.

    Args:
        path: the file.
        expected: what it should be, for the message: "model file".
        mmap: read each tensor when it is used.
        allowed: classes and functions that the file may name beside torch's own, as ``torch.serialization`` takes
            them; such that make plain values and do nothing else.

    Raises:
        DataError: it is damaged, or holds code.
    """
    import torch

    try:
        with torch.serialization.safe_globals(list(allowed)) if allowed else nullcontext():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # What a place before the beginning gives, which a file that was cut off leads to.
        raise DataError(f"no {expected}, or only a part of one", path=path) from error
    except Exception as error:  # the reader of damaged pickles raises whatever their bytes lead it to
        raise DataError(f"no {expected}: {explain_torch_error(error)}", path=path) from error


def explain_torch_error(error: Exception) -> str:
    r"""Say in one line why torch could not read a file, with our advice in the place of torch's.

    Example:
        >>> explain_torch_error(RuntimeError("PytorchStreamReader failed\nframe #0: ..."))
        'PytorchStreamReader failed'
    """
    text = str(error)
    if _REFUSED.search(text):
        needed = _NEEDED.search(text)
        return f"{ADVICE} (it asks for {needed[1]})" if needed else ADVICE
    return (text.splitlines() or [type(error).__name__])[0]
