"""Notes of what made each mask, so that an interrupted inference goes on and never mixes two models' masks.

A note is a digest of the model's file, the options that change a mask, Voxflow's version, and the image's own files.
It is removed before a mask is written, and written once everything of the case is there; so a case whose process was
killed has none.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from voxflow.engines import list_model_files
from voxflow.files import remove_partials, write_text
from voxflow.prediction import PredictOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxflow.engines import Engine
    from voxflow.inference.cases import InferenceCase
    from voxflow.inference.infer import InferOptions
    from voxflow.trust import AnyReviewer

NOTES = ".made_from"
PICTURES = "overlays"
Match = Literal["same", "other", "unknown", "unreadable"]


class ResultLedger:
    """The notes of one folder of results.

    Args:
        out: the folder; notes lie in its ``.made_from``, one a case.
        maker_digest: what makes the masks; see :func:`compute_maker_digest`.
        is_exclusive: nobody else writes there, so that a mask without a note is no finished one.
    """

    def __init__(self, out: Path, maker_digest: str, *, is_exclusive: bool = False) -> None:
        self._folder = out / NOTES
        self._maker_digest = maker_digest
        self.is_exclusive = is_exclusive

    def match(self, case: InferenceCase) -> Match:
        """Tell whether a case's mask was made by the same model, with the same options, of the same image.

        Args:
            case: whose image is compared by its contents.

        Returns:
            "same" or "other"; "unknown": there is no note; "unreadable": the image is not there to compare with.
        """
        try:
            noted = (self._folder / case.id).read_text(encoding="utf-8")
        except FileNotFoundError:
            return "unknown"
        key = self._make_key(case)
        return "unreadable" if key is None else "same" if noted == key else "other"

    def note(self, case: InferenceCase) -> None:
        """Say that everything of a case is written."""
        key = self._make_key(case)
        if key is not None:
            write_text(self._folder / case.id, key)

    def forget(self, case: InferenceCase) -> None:
        """Say that nothing is known of a case's mask, before another takes its place."""
        (self._folder / case.id).unlink(missing_ok=True)

    def keep_only(self, cases: Iterable[InferenceCase]) -> None:
        """Clear away what is half written, and all results of cases that are asked for no more.

        Args:
            cases: whose results stay.
        """
        names = {case.id for case in cases}
        out = self._folder.parent
        for folder in [path for path in out.iterdir() if path.is_dir() and path.name not in {*names, NOTES, PICTURES}]:
            shutil.rmtree(folder)
        remove_partials(out)
        for path in (*self._list_notes(), *(out / PICTURES).glob("*.png")):
            if path.name.removesuffix(".png") not in names:
                path.unlink()

    def remove(self) -> None:
        """Remove all notes."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def count(self) -> int:
        """How many cases are done."""
        return len(self._list_notes())

    def _list_notes(self) -> list[Path]:
        return [path for path in self._folder.glob("*") if not path.name.startswith(".")]

    def _make_key(self, case: InferenceCase) -> str | None:
        try:
            selection = "".join(f" {number}" for number in case.selection)
            return f"{self._maker_digest} {digest_files(case.images)}{selection}\n"
        except OSError:
            return None


def compute_maker_digest(
    engine: Engine,
    models: Sequence[Path],
    options: InferOptions,
    *,
    code: bool = False,
    reviewer: AnyReviewer | None = None,
) -> str:
    """Compute a digest of all that decides what a model says of an image.

    Args:
        engine: what runs it.
        models: what it was opened from, a model file or a folder of exported ones; several for an ensemble.
        options: of which those count that change a mask.
        code: Voxflow's own source counts too, and not its version alone.
        reviewer: who sorts the cases, which a DICOM SEG tells; None: nobody.
    """
    from voxflow import __version__

    engine_name = engine.name if options.engine == "auto" else options.engine
    if engine.spec.nnunet:  # whose mirroring is its own where none is set
        options = options.model_copy(update={"flips": options.list_flips(engine.spec)})
    flips = [options.list_flips(part.spec) for part in engine.spec.parts]
    if flips:
        options = options.model_copy(update={"flips": ()})
    if engine.spec.monai:
        update = {"back": options.choose_back(engine.spec), "blend": options.choose_blend(engine.spec)}
        options = options.model_copy(update=update)
    # What is as it always was is left out, so that notes from before these options still count.
    unnoted = {"swapped_channels"} if options.swapped_channels == "refuse" else set()
    unnoted |= {"gpu_memory_mb"} if options.gpu_memory_mb is None else set()
    settings = options.model_dump_json(include=set(PredictOptions.model_fields) - unnoted)
    settings += "" if reviewer is None else repr(reviewer)
    settings += repr(flips) if flips else ""
    custom_folders = {transform.custom for transform in engine.spec.preprocess if transform.custom}
    files = [file for model in models for file in list_model_files(model, engine.name)]
    files += [file for folder in sorted(custom_folders) for file in sorted(folder.rglob("*.py"))]
    if code:
        files += sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(f"{__version__} {engine_name} {settings} {digest_files(files)}".encode()).hexdigest()


def digest_files(files: Iterable[Path]) -> str:
    """Compute one SHA-256 digest of the contents of files, in order.

    Raises:
        OSError: one can't be read.
    """
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
