"""Each new series gets its masks once; a cut between making, sending and noting changes nothing."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from tests.dicom.objects import Series, random_values
from tests.inference.models import ThresholdEngine, volume_spec
from voxflow.dicom import ConvertOptions
from voxflow.errors import PacsError
from voxflow.inference import InferOptions
from voxflow.pacs import AnswerContext, DropFolder, IngestOptions, Ledger, RemoteSeries, answer_new_series, ingest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from voxflow.pacs import Query

OPTIONS = IngestOptions.model_validate({"folder": "drop", "settle_s": 0})


class Pacs:
    """Keeps what it is sent; can be away."""

    name = "clinic"

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.fails: list[PacsError] = []

    def find(self, query: Query) -> Iterator[RemoteSeries]:
        raise NotImplementedError

    def list_instances(self, series: RemoteSeries) -> list[str]:
        raise NotImplementedError

    def fetch(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        raise NotImplementedError

    def store(self, files: Sequence[Path]) -> None:
        self.sent += [str(dcmread(file).SOPInstanceUID) for file in files]
        if self.fails:
            raise self.fails.pop()

    def acknowledge(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


@pytest.fixture
def context(tmp_path: Path) -> AnswerContext:
    for number in (1, 2):
        uid = f"1.2.840.99.{number}"
        series = Series(random_values((6, 20, 24), number).clip(0), uid=f"{uid}.1", changes={"StudyInstanceUID": uid})
        series.write(tmp_path / "drop" / str(number))
    (tmp_path / "drop" / "notes.txt").write_text("no DICOM")
    return AnswerContext(
        engine=ThresholdEngine(volume_spec(), 300),
        model="threshold",
        inbox=tmp_path / "inbox",
        out=tmp_path / "answers",
        convert=ConvertOptions(pseudonym_key="key"),
        infer=InferOptions(overlays=0),
        archive=Pacs(),
    )


@pytest.fixture
def ledger(context: AnswerContext, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        assert len(ingest(DropFolder(tmp_path / "drop"), context.inbox, opened, OPTIONS).arrived) == 2
        yield opened


def pacs(context: AnswerContext) -> Pacs:
    assert isinstance(context.archive, Pacs)
    return context.archive


def test_every_series_gets_a_seg_of_its_own_study_once(context: AnswerContext, ledger: Ledger) -> None:
    result = answer_new_series(context, ledger)
    assert len(result.answered) == len(result.sent) == 2
    segs = [dcmread(path) for path in context.out.glob("*/*/*_seg.dcm")]
    assert sorted(str(seg.StudyInstanceUID) for seg in segs) == ["1.2.840.99.1", "1.2.840.99.2"]
    assert sorted(pacs(context).sent) == sorted(str(seg.SOPInstanceUID) for seg in segs)
    assert answer_new_series(context, ledger).answered == []
    assert len(pacs(context).sent) == 2
    assert ledger.count_states() == {"taken": 2, "failed": 0, "made": 0, "sent": 2, "kept": 0, "refused": 0}
    assert all(ledger.is_own_mask(str(seg.SeriesInstanceUID)) for seg in segs)


def test_masks_made_before_a_lost_connection_are_sent_as_they_are(context: AnswerContext, ledger: Ledger) -> None:
    pacs(context).fails = [PacsError("away", lost=True)]
    with pytest.raises(PacsError, match="away"):
        answer_new_series(context, ledger)
    again = answer_new_series(context, ledger)
    assert (len(again.answered), len(again.sent)) == (1, 2)
    # What was on its way when the connection was lost is sent once more, under the same UID.
    assert pacs(context).sent[0] == pacs(context).sent[1]
    assert len(set(pacs(context).sent)) == 2


def test_what_a_killed_fetch_left_goes_unless_somebody_goes_on_with_it(tmp_path: Path) -> None:
    inbox, drop = tmp_path / "inbox", tmp_path / "drop"
    whole = {"StudyInstanceUID": "1.2.840.99.7"}
    Series(random_values((3, 20, 24)), uid="1.2.840.99.7.1", changes=whole).write(drop)
    for name, age in (("1.2.840.99.7.1", 9000), ("1.2.840.99.8.1", 9000), ("1.2.840.99.9.1", 10)):
        (inbox / ".partial-ingest" / name).mkdir(parents=True)
        (inbox / ".partial-ingest" / name / ".partial-x").write_bytes(b"half")
        os.utime(inbox / ".partial-ingest" / name, (time.time() - age,) * 2)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        waits = OPTIONS.model_copy(update={"settle_s": 3600})
        assert ingest(DropFolder(drop), inbox, ledger, waits).waiting == ["1.2.840.99.7.1"]
        left = {path.name for path in (inbox / ".partial-ingest").iterdir()}
        assert left == {"1.2.840.99.7.1", "1.2.840.99.9.1"}, "one waits, the other may be somebody else's"
        assert ingest(DropFolder(drop), inbox, ledger, OPTIONS).arrived == ["1.2.840.99.7.1"]
        os.utime(inbox / ".partial-ingest/1.2.840.99.9.1", (0, 0))
        ingest(DropFolder(drop), inbox, ledger, OPTIONS)
    assert [path.name for path in inbox.iterdir()] == ["1.2.840.99.7"]


def test_what_can_not_be_used_is_refused_once_with_its_reason(
    context: AnswerContext, ledger: Ledger, tmp_path: Path
) -> None:
    single_slice = Series(
        random_values((1, 20, 24)), uid="1.2.840.99.3.1", changes={"StudyInstanceUID": "1.2.840.99.3"}
    )
    single_slice.write(tmp_path / "drop" / "3")
    ingest(DropFolder(tmp_path / "drop"), context.inbox, ledger, OPTIONS)
    result = answer_new_series(context, ledger)
    assert len(result.sent) == 2
    assert list(result.refused) == ["1.2.840.99.3.1"]
    assert "none of 1 series could be converted" in result.refused["1.2.840.99.3.1"]
    assert answer_new_series(context, ledger).refused == {}


def test_one_refused_mask_does_not_stop_the_others(context: AnswerContext, ledger: Ledger) -> None:
    pacs(context).fails = [PacsError("refused (0xa900)")]
    result = answer_new_series(context, ledger)
    assert (len(result.sent), list(result.failed.values())) == (1, ["refused (0xa900)"])
    assert len(answer_new_series(context, ledger).sent) == 1


def test_a_folder_can_be_emptied_and_files_still_written_are_left(
    context: AnswerContext, ledger: Ledger, tmp_path: Path
) -> None:
    new = Series(random_values((3, 20, 24)), uid="1.2.840.99.4.1", changes={"StudyInstanceUID": "1.2.840.99.4"})
    files = new.write(tmp_path / "fresh")
    quiet = DropFolder(tmp_path / "fresh", quiet_s=3600)
    assert ingest(quiet, context.inbox, ledger, OPTIONS).arrived == []
    assert ingest(DropFolder(tmp_path / "fresh", empty=True), context.inbox, ledger, OPTIONS).arrived == [
        "1.2.840.99.4.1"
    ]
    assert not any(file.exists() for file in files)
    assert len(list((context.inbox / "1.2.840.99.4/1.2.840.99.4.1").iterdir())) == 3


def test_contours_and_report_are_sent_with_the_seg_and_never_fetched_back(
    context: AnswerContext, ledger: Ledger
) -> None:
    infer = InferOptions(overlays=0, extra_outputs=("rtstruct", "sr", "stl"))
    answer_new_series(replace(context, infer=infer), ledger)
    files = [dcmread(path) for path in sorted(context.out.glob("*/*/*.dcm"))]
    assert sorted(d.Modality for d in files) == ["RTSTRUCT", "RTSTRUCT", "SEG", "SEG", "SR", "SR"]
    assert isinstance(context.archive, Pacs)
    assert sorted(context.archive.sent) == sorted(d.SOPInstanceUID for d in files)
    assert all(ledger.is_own_mask(d.SeriesInstanceUID) for d in files)
