"""Runs the original tool on images, in a Python that has it, and reads what it made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from voxflow.adopt.nnunet import CHECKPOINTS, FOLD, find_result_folder
from voxflow.bundle import BundleValues
from voxflow.errors import ConfigError, DataError
from voxflow.texts import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

PROGRAMS = {
    "nnU-Net": Path(__file__).with_name("run_nnunet.py"),
    "MONAI": Path(__file__).with_name("run_bundle.py"),
    "TotalSegmentator": Path(__file__).with_name("run_totalsegmentator.py"),
}
PACKAGE = "nnunetv2"
MOST_CHARACTERS = 300  # of an error of its
# The variables that nnU-Net warns about where they are not set; it reads none of these folders for a prediction.
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


class Original(Protocol):
    """The tool that a model comes from, which segments cases in a process of its own."""

    @property
    def python(self) -> str:
        """The program that runs it."""

    def segment(self, cases: Mapping[str, Sequence[Path]], out: Path, *, keeps_arrays: bool = False) -> OriginalRun:
        """Segment cases.

        Args:
            cases: the images of each, in the order of the channels.
            out: an empty folder, for the masks.
            keeps_arrays: also write what :func:`read_arrays` reads.

        Raises:
            DataError: the program could not be run.
        """


@dataclass(frozen=True)
class BundleOriginal:
    """MONAI itself, with a bundle, whose code it runs.

    Attributes:
        python: one that has MONAI and what the bundle needs.
        bundle: its folder.
        ending: of the masks.
        config: its inference configuration; None: as for :func:`read_bundle`.
    """

    python: str
    bundle: Path
    ending: str
    config: Path | None = None

    def segment(self, cases: Mapping[str, Sequence[Path]], out: Path, *, keeps_arrays: bool = False) -> OriginalRun:
        """See :meth:`Original.segment`."""
        bundle = self.bundle.resolve()
        job = {"bundle": str(bundle), "config": str(BundleValues(bundle, self.config).file.resolve())}
        return _run_job("MONAI", self.python, job, cases, out, ending=self.ending, keeps_arrays=keeps_arrays)


@dataclass(frozen=True)
class NnunetOriginal:
    """nnU-Net itself, with a result folder.

    Attributes:
        python: one that has nnunetv2.
        folder: the result folder, or the folder that holds it.
        folds: as :attr:`AdoptedModel.folds` has them.
        ending: of the masks.
        checkpoint: name of the checkpoints; None: as for :func:`read_nnunet`.
    """

    python: str
    folder: Path
    folds: tuple[str, ...]
    ending: str
    checkpoint: str | None = None

    def segment(self, cases: Mapping[str, Sequence[Path]], out: Path, *, keeps_arrays: bool = False) -> OriginalRun:
        """See :meth:`Original.segment`."""
        folder = find_result_folder(self.folder).resolve()
        job = {
            "folder": str(folder),
            "folds": [_parse_fold(fold) for fold in self.folds],
            "checkpoint": self.checkpoint or _find_common_checkpoint(folder, self.folds),
        }
        return _run_job("nnU-Net", self.python, job, cases, out, ending=self.ending, keeps_arrays=keeps_arrays)


@dataclass(frozen=True)
class TotalSegmentatorOriginal:
    """TotalSegmentator itself, with the weights that were adopted.

    Attributes:
        python: one that has totalsegmentator.
        task: as its ``--task`` has it.
        mode: "", "fast" or "fastest".
        weights: each result folder, by the name of its data set.
        ending: of the masks.
    """

    python: str
    task: str
    mode: str
    weights: Mapping[str, Path]
    ending: str

    def segment(self, cases: Mapping[str, Sequence[Path]], out: Path, *, keeps_arrays: bool = False) -> OriginalRun:
        """See :meth:`Original.segment`; no arrays are kept, but windows are added up in single precision."""
        folders = {name: folder.resolve() for name, folder in self.weights.items()}
        # A result folder is named TRAINER__PLANS__CONFIGURATION, and lies in that of its data set.
        plans = next(iter(folders.values())).name.split("__")[1:2]
        job = {
            "task": self.task,
            "mode": self.mode,
            "weights": {name: str(folder.parent) for name, folder in folders.items()},
            "plans": plans[0] if plans else "nnUNetPlans",
        }
        return _run_job("TotalSegmentator", self.python, job, cases, out, ending=self.ending, keeps_arrays=keeps_arrays)


@dataclass(frozen=True)
class OriginalRun:
    """What a run of the original came to.

    Attributes:
        total_seconds: that the whole process took.
        seconds: of each case.
        failures: why a case has no mask, by its name.
    """

    total_seconds: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class OriginalArrays:
    """What the original had on the way to a mask, along the axes of its network.

    Attributes:
        image: (channel, i, j, k), as the network took it.
        logits: (class, i, j, k), on the same grid.
        box: the part of the turned image that it was made of: first voxel and the one behind the last of each axis;
            None: nobody says.
    """

    image: NDArray[np.float32]
    logits: NDArray[np.float32]
    box: tuple[tuple[int, int], ...] | None


def find_python(name: str | None, package: str = PACKAGE) -> str | None:
    """Find the Python that has the original.

    Args:
        name: its path, or its name on PATH; None: the present one.
        package: that the original is.

    Returns:
        Its path; None where nothing was named and the present one has no such package.

    Raises:
        ConfigError: there is no such program.
    """
    if name is None:
        return sys.executable if find_spec(package) else None
    path = shutil.which(name)
    if path is None:
        raise ConfigError(f"no program {name!r}; name a Python that has {package}", where="--original-python")
    return str(Path(path).absolute())


def read_arrays(folder: Path, case: str) -> OriginalArrays:
    """Read the arrays of a case that :meth:`Original.segment` kept."""
    import numpy as np

    image, logits = (np.load(folder / f"{case}.{kind}.npy") for kind in ("image", "logits"))
    file = folder / f"{case}.box.json"
    box = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return OriginalArrays(image, logits, None if box is None else tuple((first, behind) for first, behind in box))


def _run_job(
    tool: str,
    python: str,
    job: Mapping[str, Any],
    cases: Mapping[str, Sequence[Path]],
    out: Path,
    *,
    ending: str,
    keeps_arrays: bool,
) -> OriginalRun:
    whole = {
        **job,
        "cases": {case: [str(file.resolve()) for file in files] for case, files in cases.items()},
        "out": str(out.resolve()),
        "ending": ending,
        "arrays": keeps_arrays,
    }
    start = time.perf_counter()
    _run_program(tool, python, whole)
    content = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return OriginalRun(time.perf_counter() - start, content["seconds"], content["failures"])


def _run_program(tool: str, python: str, job: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        # In a folder of its own: beside this file, modules of Voxflow would stand for others of the same names.
        program = Path(shutil.copy(PROGRAMS[tool], scratch))
        (Path(scratch) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        environment = {"nnUNet_compile": "f", **dict.fromkeys(FOLDERS, scratch), **os.environ}
        result = subprocess.run(
            [python, str(program), str(Path(scratch) / "job.json")],
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        reason = lines[-1][:MOST_CHARACTERS] if lines else f"exit code {result.returncode}"
        raise DataError(f"{tool} can't be run there: {escape(reason)}", path=Path(python))


def _parse_fold(name: str) -> int | str:
    number = name.removeprefix(FOLD)
    return int(number) if number.isdecimal() else number


def _find_common_checkpoint(folder: Path, folds: Sequence[str]) -> str:
    name = next((name for name in CHECKPOINTS if all((folder / fold / name).is_file() for fold in folds)), None)
    if name is None:
        message = "nnU-Net takes checkpoints of one name from all folds; name one that all have with --checkpoint"
        raise DataError(message, path=folder)
    return name
