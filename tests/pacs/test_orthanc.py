"""A real PACS by both protocols: found, fetched bit by bit, taken once, masks beside their study."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread

from tests.dicom.objects import Series, random_values
from voxflow.errors import ConfigError, PacsError
from voxflow.pacs import IngestOptions, Ledger, Query, ingest, open_archive, parse_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pacs.orthanc import Orthanc
    from voxflow.pacs import Archive

PROTOCOLS = ("web", "dimse")
NOW = IngestOptions(pacs="clinic", settle_s=0, days=None)
WRONG_TITLE = r"does not go by the AE title WRONG; see pacs.clinic in params.yaml"


@contextlib.contextmanager
def archive(orthanc: Orthanc, protocol: str, **changes: Any) -> Iterator[Archive]:
    settings = parse_settings({"clinic": getattr(orthanc, protocol) | changes}, "clinic")
    with open_archive("clinic", settings) as opened:
        yield opened


def send(orthanc: Orthanc, folder: Path, number: int = 1, slices: int = 5, **changes: Any) -> list[Path]:
    series = Series(
        random_values((slices, 12, 10), seed=number),
        uid=f"1.2.840.99.{number}.1",
        patient=f"P{number}",
        changes={"StudyInstanceUID": f"1.2.840.99.{number}"} | changes,
    )
    files = series.write(folder / f"sent{number}")
    orthanc.upload(files)
    return files


def objects(folder: Path) -> dict[str, bytes]:
    return {str(dcmread(path).SOPInstanceUID): dcmread(path).PixelData for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_new_comes_in_once(orthanc: Orthanc, tmp_path: Path, protocol: str) -> None:
    sent = [file for number in (1, 2) for file in send(orthanc, tmp_path, number)]
    inbox = tmp_path / "inbox"
    with Ledger(tmp_path / "ledger") as ledger, archive(orthanc, protocol) as pacs:
        first = ingest(pacs, inbox, ledger, NOW)
        assert sorted(first.arrived) == ["1.2.840.99.1.1", "1.2.840.99.2.1"]
        second = ingest(pacs, inbox, ledger, NOW)
        assert (second.arrived, second.known_count) == ([], 2)
    assert objects(inbox) == {str(dcmread(file).SOPInstanceUID): dcmread(file).PixelData for file in sent}
    assert len(list((inbox / "1.2.840.99.1/1.2.840.99.1.1").iterdir())) == 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_study_whose_uid_is_none_stops_no_other(
    orthanc: Orthanc, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As anonymisers make them; pynetdicom would not send such an object, so it comes by Orthanc's own interface."""
    (file,) = send(orthanc, tmp_path, 1, slices=1)
    content = file.read_bytes()
    study = b"UI\x0c\x001.2.840.99.1"
    assert content.count(study) == 1
    strange = content.replace(study, b"UI\x0c\x001.2.840.PAT1").replace(b"1.2.840.99.1.1", b"1.2.840.99.9.1")
    sop_uid = str(dcmread(file).SOPInstanceUID).encode()
    orthanc.post("/instances", strange.replace(sop_uid, sop_uid[:-1] + (b"1" if sop_uid[-1:] != b"1" else b"2")))
    with Ledger(tmp_path / "ledger") as ledger, archive(orthanc, protocol) as pacs:
        assert ingest(pacs, tmp_path / "inbox", ledger, NOW).arrived == ["1.2.840.99.1.1"]
    said = capsys.readouterr().err
    assert "a study is left out, whose UID is none" in said
    assert "PAT1" not in said


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_what_was_asked_for(orthanc: Orthanc, tmp_path: Path, protocol: str) -> None:
    send(orthanc, tmp_path, 1, StudyDate="19990101")
    send(orthanc, tmp_path, 2, Modality="MR", SeriesDescription="T1 head")
    send(orthanc, tmp_path, 3, SeriesDescription="Portal venous 3mm")
    with archive(orthanc, protocol) as pacs:
        assert {remote_series.modality for remote_series in pacs.find(Query(("MR",)))} == {"MR"}
        young = Query(days=365 * 20)
        assert {remote_series.study_uid for remote_series in pacs.find(young)} == {"1.2.840.99.2", "1.2.840.99.3"}
    portal = NOW.model_copy(update={"description": "*PORTAL*", "modalities": ("CT", "MR")})
    with Ledger(tmp_path / "ledger") as ledger, archive(orthanc, protocol) as pacs:
        assert ingest(pacs, tmp_path / "inbox", ledger, portal).arrived == ["1.2.840.99.3.1"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_series_that_grows_is_waited_for_and_only_the_rest_is_fetched(
    orthanc: Orthanc, tmp_path: Path, protocol: str
) -> None:
    send(orthanc, tmp_path, 1, slices=3)
    inbox, patient = tmp_path / "inbox", NOW.model_copy(update={"settle_s": 3600})
    with Ledger(tmp_path / "ledger") as ledger, archive(orthanc, protocol) as pacs:
        assert ingest(pacs, inbox, ledger, patient).waiting == ["1.2.840.99.1.1"]
        assert not inbox.exists()
        assert ingest(pacs, inbox, ledger, NOW).arrived == ["1.2.840.99.1.1"]
        before = {path: path.stat().st_mtime_ns for path in inbox.rglob("*.dcm")}
        send(orthanc, tmp_path, 1, slices=6)
        assert ingest(pacs, inbox, ledger, NOW).arrived == ["1.2.840.99.1.1"]
    assert len(list(inbox.rglob("*.dcm"))) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_object_is_stored_and_stays_one(orthanc: Orthanc, tmp_path: Path, protocol: str) -> None:
    files = Series(random_values((2, 12, 10)), uid="1.2.840.99.7.1").write(tmp_path / "own")
    with archive(orthanc, protocol) as pacs:
        pacs.store(files)
        pacs.store(files)
    (series_uids,) = orthanc.series("CT")
    assert len(series_uids["instances"]) == 2
    assert dcmread(files[0]).PixelData in {
        orthanc.raw(f"/instances/{remote_series}/file")[-240:] for remote_series in series_uids["instances"]
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pacs_that_is_away_is_said_to_be_lost(orthanc: Orthanc, tmp_path: Path, protocol: str) -> None:
    away: dict[str, Any] = {"url": "http://127.0.0.1:9/dicom-web"} if protocol == "web" else {"port": 9}
    with (
        Ledger(tmp_path / "ledger") as ledger,
        archive(orthanc, protocol, **away) as pacs,
        pytest.raises(PacsError, match=r"^clinic \(.*127\.0\.0\.1:9") as caught,
    ):
        ingest(pacs, tmp_path / "inbox", ledger, NOW)
    assert caught.value.lost


def test_a_wrong_password_is_wrong_input(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXFLOW_PACS_CLINIC_PASSWORD", "wrong")
    with (
        archive(orthanc, "web") as pacs,
        pytest.raises(ConfigError, match=r"401 Unauthorized; is pacs.clinic.user right, and VOXFLOW_PACS_CLINIC_PASS"),
    ):
        list(pacs.find(Query()))


def test_a_wrong_address_is_wrong_input(orthanc: Orthanc) -> None:
    with (
        archive(orthanc, "web", url=f"http://127.0.0.1:{orthanc.http}/nowhere") as pacs,
        pytest.raises(ConfigError, match="404 Not Found; there is no DICOMweb at this address"),
    ):
        list(pacs.find(Query()))


def test_a_wrong_ae_title_is_wrong_input(orthanc: Orthanc) -> None:
    with archive(orthanc, "dimse", aet="WRONG") as pacs, pytest.raises(ConfigError, match=WRONG_TITLE):
        list(pacs.find(Query()))


def test_a_rejection_counts_that_comes_before_it_is_waited_for(
    orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pynetdicom import evt

    trigger = evt.trigger

    def trigger_and_pause(association: Any, event: Any, attributes: Any = None) -> Any:
        answer = trigger(association, event, attributes)
        if event is evt.EVT_REQUESTED:
            time.sleep(0.5)
        return answer

    monkeypatch.setattr(evt, "trigger", trigger_and_pause)
    with archive(orthanc, "dimse", aet="WRONG") as pacs, pytest.raises(ConfigError, match=WRONG_TITLE):
        list(pacs.find(Query()))


def test_a_pacs_that_does_not_know_where_to_send_is_asked_whether_it_does(orthanc: Orthanc, tmp_path: Path) -> None:
    send(orthanc, tmp_path)
    with Ledger(tmp_path / "ledger") as ledger, archive(orthanc, "dimse", own_aet="NOBODY") as pacs:
        failed = ingest(pacs, tmp_path / "inbox", ledger, NOW).failed
        assert re.search(r"C-MOVE failed \(0xc000\); does it know NOBODY at 127", failed["1.2.840.99.1.1"])
        assert ledger.count_states()["failed"] == 1
    assert not list((tmp_path / "inbox").glob("*/*/*.dcm"))
