"""Makes masks for each new series, or study of several channels, and sends their DICOM SEG back into its study.

Masks are made in a folder of their own, put in their place at once, and only then sent. The ledger notes
each step after it is done. A cut at any moment repeats at most one step, and every step may be repeated: a SEG keeps
its UIDs.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from voxflow.errors import DataError, InputError, PacsError
from voxflow.files import atomic_directory, temporary_folder, write_json
from voxflow.pacs.waiting import NO_CHANNEL, list_series, list_studies
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.dicom import ConvertOptions
    from voxflow.engines import Engine
    from voxflow.inference import InferenceCase, InferOptions
    from voxflow.pacs.archive import Archive
    from voxflow.pacs.ledger import Ledger
    from voxflow.pacs.waiting import AnswerUnit
    from voxflow.trust import Reviewer

NOTE = "answer.json"


class AnswerOptions(BaseModel):
    """The options of answering: the keys of ``workspaces.WS.answer`` in params.yaml.

    Attributes:
        pacs: where masks are sent, an entry below ``pacs``; None: the one that series come from, if they do.
        send: whether masks are sent at all.
        out: where masks and tables are kept, a folder a series; None: ``data/answers/WS``.
        model: a model file or a folder of exported models; None: the workspace's export.
        channels_wait_s: how long a study waits for a missing channel after its last object came; then it is given up,
            with the reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pacs: str | None = None
    send: bool = True
    out: Path | None = None
    model: str | None = None
    channels_wait_s: float = Field(default=3600, ge=0)


@dataclass
class AnswerResult:
    """What became of what waited, by SeriesInstanceUID, or by StudyInstanceUID for a model of several channels.

    Attributes:
        answered: masks were made.
        sent: masks were sent, those of an earlier call among them.
        refused: can't be used, with the reason; it is not tried again.
        failed: could not be sent, with the reason; it is tried again.
        waiting: studies that lack a channel, with the reason; they are looked at again.
    """

    answered: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AnswerContext:
    """All that answering needs beside the ledger.

    Attributes:
        engine: the model.
        model: its name, for the ledger.
        inbox: where series are, as STUDY/SERIES/OBJECT.dcm.
        out: where answers are kept, a folder a series or study.
        convert, infer: as the workspace's stages do it.
        archive: where masks go; None: they stay here.
        channels_wait_s: as :class:`AnswerOptions` has it.
        reviewer: who sorts the cases, where ``infer`` asks for it.
    """

    engine: Engine
    model: str
    inbox: Path
    out: Path
    convert: ConvertOptions
    infer: InferOptions
    archive: Archive | None = None
    channels_wait_s: float = 3600
    reviewer: Reviewer | None = None


def answer_new_series(context: AnswerContext, ledger: Ledger) -> AnswerResult:
    """Make and send the masks of every series, or study of several channels, that has none yet, one after another.

    A mask is in its place before it is sent, and its SEG keeps its UIDs: sent twice, after a cut between sending and
    noting it, it is still one object in the PACS.

    Args:
        context: the model, the folders and the archive.
        ledger: which series came in, and what became of them.

    Raises:
        PacsError: the archive is away; what was made is kept, and sent by the next call.
        ConfigError: the archive does not know us.
    """
    from voxflow.inference import choose_channel_rules

    result = AnswerResult()
    spec = context.engine.spec
    if spec.has_several_images:
        context = replace(context, convert=choose_channel_rules(context.convert, spec))
        units = list_studies(ledger, context.inbox, context.convert)
    else:
        units = list_series(ledger, context.inbox)
    for unit in units:
        try:
            _answer_unit(context, ledger, unit, result)
        except InputError as error:
            if not _is_about_series(error):
                raise
            _refuse(context, ledger, unit, str(error).splitlines()[0], result)
        except PacsError as error:
            if error.lost:
                raise
            result.failed[unit.uid] = str(error)
            say(f"{unit.name}: {error}")
    return result


def _refuse(context: AnswerContext, ledger: Ledger, unit: AnswerUnit, reason: str, result: AnswerResult) -> None:
    result.refused[unit.uid] = reason
    for entry in unit.entries:
        ledger.record_answer(entry.series_uid, entry.taken_count, "refused", reason=reason, model=context.model)
    say(f"{unit.name}: {reason}")


def _is_about_series(error: InputError) -> bool:
    """Wrong settings are nobody's fault but the user's, and no reason to give up a series."""
    return isinstance(error, DataError)


def _answer_unit(context: AnswerContext, ledger: Ledger, unit: AnswerUnit, result: AnswerResult) -> None:
    if unit.missing:
        seconds = unit.count_quiet_seconds()
        if seconds < context.channels_wait_s:
            result.waiting[unit.uid] = unit.missing
            say(f"{unit.name}: waits: {unit.missing}")
            return
        _refuse(context, ledger, unit, f"given up after {seconds:.0f} s without a new object: {unit.missing}", result)
        return
    for entry in unit.others:
        if ledger.find_answer(entry.series_uid, entry.taken_count) is None:
            ledger.record_answer(entry.series_uid, entry.taken_count, "refused", reason=NO_CHANNEL, model=context.model)
    folder = context.out / unit.uid
    note = _read_note(folder)
    # What grew since gets new masks.
    if note.get("instances") != unit.instances:
        note = _make_masks(context, unit, folder)
        result.answered.append(unit.uid)
    elif all(ledger.find_answer(entry.series_uid, entry.taken_count) in ("sent", "kept") for entry in unit.entries):
        return  # only a series that is no channel has come
    model = str(note["model"])
    for entry in unit.entries:
        ledger.record_answer(entry.series_uid, entry.taken_count, "made", model=model, mask_series_uids=note["own"])
    if context.archive is not None:
        context.archive.store([folder / name for name in note["files"]])
        result.sent.append(unit.uid)
    for entry in unit.entries:
        ledger.record_answer(entry.series_uid, entry.taken_count, "sent" if context.archive else "kept", model=model)


def _make_masks(context: AnswerContext, unit: AnswerUnit, folder: Path) -> dict[str, Any]:
    """Convert, infer, and put everything in its place at once.

    Raises:
        DataError: the series are no image that the model takes.
    """
    from voxflow.inference import infer_cases

    with temporary_folder(context.out) as work, atomic_directory(folder) as out:
        cases = _convert_series(context, unit.source, work / "volumes")
        inference = infer_cases(context.engine, cases, out, context.infer, reviewer=context.reviewer)
        files = sorted(file.relative_to(out).as_posix() for file in out.glob("*/*.dcm"))
        if inference.failures.rows:
            reasons = "; ".join(dict.fromkeys(row["reason"] for row in inference.failures.rows))
            raise DataError(reasons, path=unit.source)
        note = {
            "study_uid": unit.study_uid,
            **({"series_uid": unit.uid} if unit.kind == "series" else {}),
            "instances": unit.instances,
            "model": context.model,
            "engine": context.engine.name,
            "files": files,
            "own": _read_series_uids([out / name for name in files]),
        }
        write_json(out / NOTE, note)
    say(f"{unit.name}: {len(cases)} case(s), {len(files)} DICOM object(s) → {folder}")
    return note


def _convert_series(context: AnswerContext, source: Path, volumes: Path) -> list[InferenceCase]:
    from voxflow.dicom import convert_folder
    from voxflow.inference import attach_sources, find_native_cases

    is_segmentation = context.engine.spec.task == "segmentation"
    # The ledger leads back to the patient; a file a series would not.
    options = context.convert.without_table().model_copy(update={"mapping": False, "workers": 1, "findings": None})
    convert_folder(source, volumes, options)
    with (volumes / "cases.csv").open(encoding="utf-8") as stream:
        names = [row["case"] for row in csv.DictReader(stream) if row["image"].endswith(".png") is not is_segmentation]
    if not names:
        raise DataError(f"holds no image for a model that does {context.engine.spec.task}", path=source)
    cases = find_native_cases([(name, None) for name in names], volumes, is_mask=False)
    if not is_segmentation or not context.infer.needs_sources:
        return cases
    return attach_sources(cases, source, options)


def _read_note(folder: Path) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note


def _read_series_uids(files: Sequence[Path]) -> list[str]:
    import pydicom

    return [
        str(pydicom.dcmread(file, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True).SeriesInstanceUID)
        for file in files
    ]
