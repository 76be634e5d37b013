"""The service answers with what inference writes, refuses what is hostile, and loses nothing that it accepted."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pydicom
import pytest

from tests.dicom.objects import Series, random_values
from tests.inference.models import BrightnessEngine, ThresholdEngine, volume_spec
from tests.serving.servers import SMALL, SlowEngine, run_service
from tests.serving.uploads import zip_files
from voxflow.geometry import Geometry
from voxflow.inference import InferOptions
from voxflow.serving.work import Format, answer_request
from voxflow.volumes import Volume, read_volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.serving import ServeLimits

    Start = Callable[..., httpx.Client]

GRID = Geometry.from_parts((24, 20, 10), (1, 1, 5))


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a service on a free port of this machine."""
    with ExitStack() as stack:

        def begin(engine: Engine, limits: ServeLimits = SMALL) -> httpx.Client:
            port, _ = stack.enter_context(run_service(engine, limits))
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
            return stack.enter_context(client)

        yield begin


def nifti(tmp_path: Path, seed: int = 0) -> tuple[bytes, np.ndarray]:
    array = np.random.default_rng(seed).random(GRID.size).astype(np.float32)
    write_volume(tmp_path / f"sent{seed}.nii.gz", Volume(array, GRID))
    return (tmp_path / f"sent{seed}.nii.gz").read_bytes(), array


def dicom_zip(*series: Series) -> bytes:
    files = {}
    for number, one_series in enumerate(series):
        for k, dataset in enumerate(one_series.datasets()):
            buffer = io.BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            files[f"study/{number}/{k}"] = buffer.getvalue()
    return zip_files(files)


def test_a_nifti_comes_back_as_a_mask(start: Start, tmp_path: Path) -> None:
    data, array = nifti(tmp_path)
    answer = start(ThresholdEngine()).post("/predict", content=data)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/gzip")
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    mask = read_volume(tmp_path / "mask.nii.gz")
    assert mask.geometry.is_close(GRID)
    assert np.array_equal(mask.array, array > 0.5)


def test_json_tells_the_volumes(start: Start, tmp_path: Path) -> None:
    data, array = nifti(tmp_path)
    answer = start(ThresholdEngine()).post("/predict?format=json", content=data).json()
    assert answer["failures"] == []
    assert answer["cases"][0]["organ_ml"] == pytest.approx((array > 0.5).sum() * 5 / 1000)


def test_a_zip_of_dicom_comes_back_as_a_seg_of_its_series(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXFLOW_MAPPING_FOLDER", str(tmp_path / "mapping"))
    series = Series(random_values((6, 20, 24)).clip(0))
    answer = start(ThresholdEngine(volume_spec(), 300)).post("/predict", content=dicom_zip(series))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")
    seg = pydicom.dcmread(io.BytesIO(answer.content))
    sent = {str(dataset.SOPInstanceUID) for dataset in series.datasets()}
    referenced = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {str(item.ReferencedSOPInstanceUID) for item in referenced} <= sent
    assert not (tmp_path / "mapping").exists()  # no file leads from pseudonyms back to the sent patient


def test_several_series_come_back_as_a_zip_that_names_the_bad_one(start: Start) -> None:
    series = [Series(random_values((6, 20, 24), seed=n).clip(0), uid=f"1.2.{n}", frame=f"1.3.{n}") for n in (1, 2)]
    answer = start(ThresholdEngine(volume_spec(), 300)).post("/predict", content=dicom_zip(*series))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = archive.namelist()
        assert json.loads(archive.read("failures.json")) == []
    assert sum(name.endswith(".nii.gz") for name in names) == 2
    assert sum(name.endswith("_seg.dcm") for name in names) == 2


def test_a_radiograph_comes_back_as_probabilities(start: Start, tmp_path: Path) -> None:
    write_radiograph(tmp_path / "a.png", np.full((40, 40), 140, np.uint8))
    answer = start(BrightnessEngine()).post("/predict", content=(tmp_path / "a.png").read_bytes()).json()
    chances = [value for key, value in answer["cases"][0].items() if key not in ("case", "image")]
    assert chances[0] > 0.8
    assert chances[1] < 0.1


def test_health_and_metrics(start: Start, tmp_path: Path) -> None:
    client = start(ThresholdEngine())
    assert client.post("/predict", content=nifti(tmp_path)[0]).status_code == 200
    assert client.post("/predict", content=b"what is this").status_code == 415
    health = client.get("/health").json()
    assert (health["status"], health["engine"], health["waiting"]) == ("ok", "torch", 0)
    assert health["device"] == "cpu"
    lines = client.get("/metrics").text.splitlines()
    assert 'voxflow_requests_total{status="200"} 1' in lines
    assert 'voxflow_requests_total{status="415"} 1' in lines


def header(shape: tuple[int, ...]) -> bytes:
    start = struct.pack("<i", 348) + bytes(36) + struct.pack("<8h", len(shape), *shape, *(1,) * (7 - len(shape)))
    start += bytes(14) + struct.pack("<2h", 4, 16)
    return start.ljust(108, b"\0") + struct.pack("<f", 352) + bytes(232) + b"n+1\0" + bytes(4)


BOMB = zip_files({"a": bytes(5 << 20)})
HOSTILE = {
    "an empty body": (b"", 400, "empty"),
    "text": (b"hello", 415, "expected a NIfTI-1"),
    "a body above the bound": (bytes(2 << 20), 413, "the body has"),
    "a zip bomb": (BOMB, 413, "unpacks to 5 MB"),
    # The claimed size lies, so that only what comes out tells.
    "a zip bomb that lies": (BOMB.replace(struct.pack("<I", 5 << 20), struct.pack("<I", 10)), 400, "can't be unpacked"),
    "a path that leads out": (zip_files({"../../etc/passwd": b"x"}), 400, "leads out"),
    "an absolute path": (zip_files({"/etc/passwd": b"x"}), 400, "leads out"),
    "a path that leads out, the other way": (zip_files({"..\\..\\x": b"x"}), 400, "leads out"),
    "too many files": (zip_files({str(n): b"" for n in range(60)}), 413, "60 files"),
    "a truncated zip": (dicom_zip(Series(random_values()))[:-200], 400, "can't be unpacked"),
    "a zip of nothing": (zip_files({"readme.txt": b"hello"}), 422, ""),
    "a truncated gzip": (gzip.compress(bytes(4000))[:12], 422, "gzip"),
    "a gzip of something else": (gzip.compress(b"x" * 4000), 415, "no NIfTI-1"),
    "a volume that claims the world": (gzip.compress(header((30000, 30000, 30000))), 413, "unpacked"),
    "a volume of no size": (header((0, 4, 4)), 422, "claims the size"),
    "a volume without its voxels": (header((20, 20, 20)), 422, ""),
    "the same, compressed": (gzip.compress(header((20, 20, 20))), 422, ""),
    "a volume of two files": (header((4, 4, 4)).replace(b"n+1", b"ni1") + bytes(128), 422, "single file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_can_not_be_used_is_refused_in_one_line(start: Start, name: str) -> None:
    body, status, words = HOSTILE[name]
    answer = start(ThresholdEngine()).post("/predict", content=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert words in error
    assert len(error.splitlines()) == 1
    assert "/tmp" not in error  # noqa: S108 - no path of the server


def test_a_link_in_a_zip_is_refused(start: Start) -> None:
    link = zipfile.ZipInfo("a")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "link" in start(ThresholdEngine()).post("/predict", content=buffer.getvalue()).json()["error"]


def test_who_finds_the_queue_full_is_told_to_come_back_and_who_was_accepted_is_answered(
    start: Start, tmp_path: Path
) -> None:
    client = start(SlowEngine())
    data, _ = nifti(tmp_path)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: client.post("/predict", content=data), range(12)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 503)
    assert client.get("/health").json()["waiting"] == 0


def test_extra_outputs_come_in_the_zip(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(nifti(tmp_path)[0])
    options = InferOptions(overlays=0, extra_outputs=("stl", "statistics", "sr"))
    answer = answer_request(ThresholdEngine(), tmp_path, options, SMALL, "auto")
    with zipfile.ZipFile(answer.path) as archive:
        extra = {"image_organ.stl", "statistics.csv", "statistics.json"}
        assert set(archive.namelist()) == {"image.nii.gz", "preds_outputs.csv", "failures.json"} | extra


@pytest.mark.parametrize("response_format", ["nifti", "json"])
def test_extra_outputs_are_not_made_for_an_answer_without_them(tmp_path: Path, response_format: Format) -> None:
    (tmp_path / "upload").write_bytes(nifti(tmp_path)[0])
    options = InferOptions(overlays=0, extra_outputs=("stl", "statistics", "sr"))
    answer = answer_request(ThresholdEngine(), tmp_path, options, SMALL, response_format)
    assert answer.failed == 0
    assert list((tmp_path / "out").rglob("*.nii.gz"))
    assert not [*(tmp_path / "out").rglob("*.stl"), *(tmp_path / "out").rglob("*statistics*")]
