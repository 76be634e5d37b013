"""The tree of exceptions; each knows the exit code that a command ends with.

VoxflowError                 exit 1   something failed while working
├── InputError               exit 2   what the user gave is wrong: file, place, value, rule
│   ├── ConfigError                   a workspace's or params' configuration
│   ├── DataError                     an image, a label, a table or a datalist
│   └── DicomError                    a DICOM file or series; carries the tag where there is one
├── MissingDependencyError   exit 2   an optional package is not installed; says what to install
├── TrainingError            exit 1   training can't go on (a loss that is not a number, say)
├── ParityError              exit 1   an exported engine differs from the model that it came from
├── ClusterError             exit 1   a Dask cluster is away, or its workers can't do the work
├── PacsError                exit 1   a PACS is away or did not do what it was asked; may well work later
└── QualityError             exit 1   a critical data check failed
"""

import re
from collections.abc import Sequence
from pathlib import Path

from voxflow.redaction import hide_secrets

MOST_CHARACTERS = 2000  # of a line of a message

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_WRONG_INPUT = 2
EXIT_SOME_FAILED = 3
EXIT_ALERT = 4
EXIT_INTERRUPTED = 130


# What libraries raise on one bad image besides our own; a file that can't be written (OSError) is no image's fault.
LIBRARY_ERRORS = (RuntimeError, ValueError, ArithmeticError, LookupError, MemoryError)


class VoxflowError(Exception):
    """The root: anything that a command reports as one clear line."""

    exit_code = EXIT_FAILURE

    def __str__(self) -> str:
        """The message without secrets; it reaches logs, tables and pages."""
        return hide_secrets(super().__str__())


class InputError(VoxflowError):
    """Wrong input.

    Args:
        message: what is wrong, with the value received, and what would be right.
        path: the file that holds it.
        where: the place inside the file: a JSON path, a row, a DICOM tag.
    """

    exit_code = EXIT_WRONG_INPUT

    def __init__(self, message: str, *, path: Path | str | None = None, where: str | None = None) -> None:
        # What a file holds may stand in it: a damaged header, a cell without an end.
        message = shorten(message)
        self.message = message
        self.path = path
        self.where = where
        place = ": ".join(str(part) for part in (path, where) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)


class ConfigError(InputError):
    """One or several faults of a configuration, all reported at once.

    Args:
        findings: one line a fault; each names its own file and JSON path.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | str | None = None,
        where: str | None = None,
        findings: Sequence[str] = (),
    ) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join([message, *self.findings]), path=path, where=where)


class DataError(InputError):
    """An image, a label, a table or a datalist that can't be used."""


class DicomError(InputError):
    """A DICOM file or series that can't be trusted; ``where`` carries the tag."""


class MissingDependencyError(VoxflowError):
    """An optional package is missing; the message says what to install."""

    exit_code = EXIT_WRONG_INPUT


class TrainingError(VoxflowError):
    """Training can't go on."""


class ParityError(VoxflowError):
    """An exported engine differs from the model that it came from by more than its bound."""


class QualityError(VoxflowError):
    """A data check marked critical failed."""


class ClusterError(VoxflowError):
    """A Dask cluster is away, or its workers can't do the work."""


class PacsError(VoxflowError):
    """A PACS is away, or did not do what it was asked.

    Args:
        message: one line that names the PACS and what it said.
        lost: the connection is gone, so that asking it for the next thing now makes no sense.
    """

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


def shorten(text: str, most: int = MOST_CHARACTERS) -> str:
    """Cut each line of a text that is longer than any message, so that no table or log takes a file's content.

    Example:
        >>> shorten("label values 1, 2, 3, 4", most=14)
        'label values …'
    """
    if len(text) <= most:
        return text
    return "\n".join(line if len(line) <= most else f"{line[: most - 1]}…" for line in text.split("\n"))


def last_line_of(error: Exception) -> str:
    r"""The last line of a library's error that holds anything; SimpleITK's and OpenVINO's begin with their C++ code.

    Example:
        >>> last_line_of(RuntimeError("Exception thrown in ImageFileReader::Execute\n  unsupported pixel type\n"))
        'unsupported pixel type'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # C++ names an object by its address, which is another one each time.
    return re.sub(r"\(0x[0-9a-f]+\)", "", lines[-1]) if lines else "no reason given"


def join_names(names: Sequence[str], most: int = 10) -> str:
    """The first names of a list, and how many more there are.

    Example:
        >>> join_names(["a_1", "b_1", "c_1"], most=2)
        'a_1, b_1 and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
