"""Opens the prepared cases that a training reads, and prepares those that the cache does not have."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components import PREVIOUS_FIELD
from voxflow.errors import DataError, InputError
from voxflow.progress import say, track
from voxflow.training.cache import CaseCache, identify_head
from voxflow.training.casefile import CaseFile, CaseFileError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.components import Chain, Sample
    from voxflow.datalist import Case
    from voxflow.training.unlabelled import UnlabelledClasses

SHOWN_FAULTS = 20
HIGHEST_LABEL = "highest_label"  # the sample's key for its largest label value


class CachedStore:
    """Cases after their deterministic transforms, in files that are mapped into memory.

    A sample's arrays are views of its file: what a crop does not touch is not read, and the memory of the process
    stays the same however many cases there are.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        chain: Chain,
        cache: CaseCache,
        *,
        threads: int,
        classes: int | None,
        skip: bool = False,
        turn: float = 0.0,
        unlabelled: UnlabelledClasses | None = None,
    ) -> None:
        """Prepare what the cache does not have yet, several cases at a time.

        Args:
            cases: cases with labels.
            chain: its head is run.
            cache: where prepared cases are kept.
            threads: cases at once.
            classes: segmentation: label values must lie below this.
            skip: cases that can't be used are named and left out, instead of an error.
            turn: where in the list to begin, 0 to 1: processes that begin apart share the work.
            unlabelled: what nobody labelled, and is marked in the labels; None: nothing.

        Raises:
            DataError: images or labels can't be used; the message names every case.
            OSError: the disk is full, say.
        """
        self._chain, self._cache, self._classes, self._unlabelled = chain, cache, classes, unlabelled
        self._head = identify_head(chain)
        self._verified: set[Path] = set()
        faults: list[str] = []

        def prepare(case: Case) -> CaseFile | None:
            try:
                return self._open_file(case)
            except InputError as error:
                faults.append(str(error) if case.id in str(error) else f"case {case.id}: {error}")
                return None

        first = int(len(cases) * turn)
        rotated_cases = [*cases[first:], *cases[:first]]
        with ThreadPoolExecutor(threads) as pool:
            files = list(track(pool.map(prepare, rotated_cases), "preparing cases", total=len(rotated_cases)))
        files = files[len(cases) - first :] + files[: len(cases) - first]
        self._entries = [(case, file) for case, file in zip(cases, files, strict=True) if file]
        self._report_faults(sorted(faults), skip=skip)

    def _report_faults(self, faults: list[str], *, skip: bool) -> None:
        if not faults:
            return
        more = [f"... and {len(faults) - SHOWN_FAULTS} more"] if len(faults) > SHOWN_FAULTS else []
        if not skip or not self._entries:
            raise DataError("\n".join([*faults[:SHOWN_FAULTS], *more]))
        for fault in [*faults[:SHOWN_FAULTS], *more]:
            say(f"warning: left out: {fault}")

    @property
    def paths(self) -> list[Path]:
        """The files of the cases."""
        return [file.path for _, file in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        case, file = self._entries[index]
        try:
            if file.path not in self._verified:
                file.verify()
            sample = file.map_sample()
        except (OSError, CaseFileError, ValueError) as error:
            say(f"warning: case {case.id} is prepared afresh, its file in the cache can't be used: {error}")
            file.path.unlink(missing_ok=True)
            file = self._open_file(case)
            self._entries[index] = case, file
            sample = file.map_sample()
        self._verified.add(file.path)
        return sample | {"case": case.id}

    def _open_file(self, case: Case) -> CaseFile:
        mark = self._unlabelled.mark(case) if self._unlabelled else {}
        head = [*self._head, mark] if mark else self._head
        file = self._cache.open_case(self._cache.path_of(case, head), lambda: self._prepare(case, mark))
        highest = file.read_value(HIGHEST_LABEL)
        # Asked here and not when the case is prepared: another training may have prepared it for more classes.
        if self._classes is not None and highest is not None and highest >= self._classes:
            raise DataError(f"case {case.id}: label value {highest}, the data names {self._classes} classes (0 first)")
        return file

    def _prepare(self, case: Case, mark: Mapping[str, Any]) -> Sample:
        label: Any = case.label
        if isinstance(label, tuple):
            label = np.asarray(label, dtype=np.float32)
        try:
            previous = {} if case.previous is None else {PREVIOUS_FIELD: case.previous}
            sample = self._chain.run_head({"case": case.id, "image": case.image, "label": label, **previous, **mark})
        except InputError:
            raise
        except Exception as error:  # a library's, a transform's, a user's own: the case must be named
            text = error.args[0] if error.args else type(error).__name__
            raise DataError(f"case {case.id}: {text}") from error
        image, label = sample["image"], sample["label"]
        if not isinstance(image, np.ndarray) or not isinstance(label, np.ndarray):
            raise DataError(f"case {case.id}: no transform loads its image and label")
        if self._classes is None:
            return sample
        if image.shape[1:] != label.shape[1:]:
            raise DataError(f"case {case.id}: image {image.shape[1:]} and label {label.shape[1:]} differ in size")
        return sample | {HIGHEST_LABEL: int(label.max(initial=0))}
