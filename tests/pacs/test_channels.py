"""A study is answered once all of its channels are there; until then it waits, and is given up with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.dicom.test_channel_cases import make_study
from tests.inference.test_dicom_channels import PetCtEngine, pet_ct_spec
from tests.pacs.test_answer import Pacs
from tests.pacs.test_orthanc import NOW, archive
from voxflow.dicom import ConvertOptions
from voxflow.errors import ConfigError
from voxflow.inference import InferOptions
from voxflow.pacs import AnswerContext, AnswerResult, DropFolder, IngestOptions, Ledger, answer_new_series, ingest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.dicom.objects import Series
    from tests.pacs.orthanc import Orthanc

DROP = IngestOptions.model_validate({"folder": "drop", "settle_s": 0})
MISSING = "lacks the channel PET of CT, PET: no series fits its rule"


class Clinic:
    """A drop folder, an inbox, and a model that takes CT and PET."""

    def __init__(self, folder: Path, ledger: Ledger, **changes: Any) -> None:
        self.folder, self.ledger = folder, ledger
        (folder / "drop").mkdir(exist_ok=True)
        self.study = make_study(folder / "made", 1)
        self.pacs = Pacs()
        values: dict[str, Any] = {"convert": ConvertOptions(pseudonym_key="key"), "archive": self.pacs} | changes
        self.context = AnswerContext(
            engine=PetCtEngine(pet_ct_spec()),
            model="pet_ct",
            inbox=folder / "inbox",
            out=folder / "answers",
            infer=InferOptions(overlays=0, plan="whole"),
            **values,
        )

    def send(self, series: Series, name: str) -> list[Path]:
        return series.write(self.folder / "drop" / name)

    def answer(self) -> AnswerResult:
        ingest(DropFolder(self.folder / "drop"), self.context.inbox, self.ledger, DROP)
        return answer_new_series(self.context, self.ledger)

    def states(self) -> dict[str, int]:
        return {name: count for name, count in self.ledger.count_states().items() if count}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def study_uid(series: Series) -> str:
    return str(series.changes["StudyInstanceUID"])


def test_a_study_waits_for_its_channel_and_is_answered_once(
    tmp_path: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic = Clinic(tmp_path, ledger)
    uid = study_uid(clinic.study["CT"])
    clinic.send(clinic.study["CT"], "ct")
    waiting = clinic.answer()
    assert (waiting.waiting, waiting.answered, waiting.refused) == ({uid: MISSING}, [], {})
    assert f"study {uid}: waits: {MISSING}" in capsys.readouterr().err
    clinic.send(clinic.study["PET"], "pet")
    result = clinic.answer()
    assert (result.answered, result.sent, result.waiting) == ([uid], [uid], {})
    (path,) = (tmp_path / "answers" / uid).glob("*/*_seg.dcm")
    assert dcmread(path).ReferencedSeriesSequence[0].SeriesInstanceUID == clinic.study["PET"].uid
    again = clinic.answer()
    assert (again.answered, again.sent, again.waiting) == ([], [], {})
    assert len(clinic.pacs.sent) == 1
    assert clinic.states() == {"taken": 2, "sent": 2}


def test_a_study_is_given_up_and_answered_when_its_channel_comes_late(tmp_path: Path, ledger: Ledger) -> None:
    clinic = Clinic(tmp_path, ledger, channels_wait_s=0)
    uid = study_uid(clinic.study["CT"])
    clinic.send(clinic.study["CT"], "ct")
    (reason,) = clinic.answer().refused.values()
    assert reason.startswith("given up after 0 s without a new object: lacks the channel PET")
    assert clinic.answer().refused == {}  # once
    clinic.send(clinic.study["PET"], "pet")
    assert clinic.answer().sent == [uid]
    assert clinic.states() == {"taken": 2, "sent": 2}


def test_a_series_that_is_no_channel_changes_nothing(tmp_path: Path, ledger: Ledger) -> None:
    clinic = Clinic(tmp_path, ledger)
    for name, series in clinic.study.items():
        clinic.send(series, name)
    assert len(clinic.answer().sent) == 1
    scout = make_study(tmp_path / "scout", 1, StudyInstanceUID=study_uid(clinic.study["CT"]), Modality="MR")["CT"]
    clinic.send(scout, "scout")
    result = clinic.answer()
    assert (result.answered, result.sent, result.refused, result.waiting) == ([], [], {}, {})
    assert len(clinic.pacs.sent) == 1
    assert ledger.find_answer(scout.uid, 6) == "refused"


def test_a_channel_that_grew_gets_new_masks(tmp_path: Path, ledger: Ledger) -> None:
    clinic = Clinic(tmp_path, ledger)
    clinic.send(clinic.study["PET"], "PET")
    last = clinic.send(clinic.study["CT"], "CT")[-1]
    last.rename(tmp_path / "last")
    first = clinic.answer()
    (tmp_path / "last").rename(last)
    second = clinic.answer()
    assert len(first.answered) == len(second.answered) == 1
    assert len(clinic.pacs.sent) == 2


def test_two_series_for_one_channel_are_no_guess(tmp_path: Path, ledger: Ledger) -> None:
    clinic = Clinic(tmp_path, ledger)
    for name, series in clinic.study.items():
        clinic.send(series, name)
    second = make_study(tmp_path / "second", 2, StudyInstanceUID=study_uid(clinic.study["CT"]))["PET"]
    second.patient = "P1"
    clinic.send(second, "second")
    (reason,) = clinic.answer().waiting.values()
    assert reason.startswith("2 series fit the channel PET")


def test_channels_of_several_studies_are_a_wrong_setting(tmp_path: Path, ledger: Ledger) -> None:
    convert = ConvertOptions(pseudonym_key="key", channels_of="patient")
    clinic = Clinic(tmp_path, ledger, convert=convert)
    clinic.send(clinic.study["CT"], "ct")
    with pytest.raises(ConfigError, match="the channels of a case must lie in one study"):
        clinic.answer()


def test_a_pacs_gets_one_seg_for_a_study_that_came_in_two_parts(
    orthanc: Orthanc, tmp_path: Path, ledger: Ledger
) -> None:
    study = make_study(tmp_path / "made", 1, StudyInstanceUID=str(generate_uid()))
    with archive(orthanc, "web") as pacs:
        context = AnswerContext(
            engine=PetCtEngine(pet_ct_spec()),
            model="pet_ct",
            inbox=tmp_path / "inbox",
            out=tmp_path / "answers",
            convert=ConvertOptions(pseudonym_key="key"),
            infer=InferOptions(overlays=0, plan="whole"),
            archive=pacs,
        )
        waiting: list[str] = []
        sent: list[str] = []
        for series in (study["CT"], study["PET"]):
            orthanc.upload(series.write(tmp_path / series.uid))
            for _ in range(2):
                ingest(pacs, context.inbox, ledger, NOW)
                result = answer_new_series(context, ledger)
                waiting += result.waiting.values()
                sent += result.sent
    assert (waiting, sent) == ([MISSING, MISSING], [study_uid(study["CT"])])
    (seg,) = orthanc.series("SEG")
    assert len(seg["instances"]) == 1
