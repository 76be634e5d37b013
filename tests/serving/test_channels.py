"""The service takes cases of several channels, as a form or a zip, and says what is missing or too much."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pydicom
import pytest

from tests.dicom.test_channel_cases import make_study
from tests.inference.models import ThresholdEngine
from tests.inference.test_channels import GRID, DifferenceEngine, make_arrays, spec_of
from tests.inference.test_dicom_channels import PetCtEngine, expect_masks, pet_ct_spec
from tests.serving.servers import SMALL, ask, run_service
from tests.serving.uploads import zip_files
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.serving import ServeLimits

    Start = Callable[..., tuple[httpx.Client, int]]

NAMES = ("T1", "T2")


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(engine: Engine | None = None, limits: ServeLimits = SMALL) -> tuple[httpx.Client, int]:
            port, _ = stack.enter_context(run_service(engine or DifferenceEngine(spec_of(*NAMES)), limits))
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
            return stack.enter_context(client), port

        yield begin


def pack(folder: Path, array: np.ndarray, grid: Geometry = GRID, suffix: str = ".nii.gz") -> bytes:
    path = folder / f"packed{suffix}"
    write_volume(path, Volume(array, grid))
    return path.read_bytes()


def unpack(folder: Path, content: bytes) -> Volume:
    (folder / "mask.nii.gz").write_bytes(content)
    return read_volume(folder / "mask.nii.gz")


def test_a_form_has_a_field_for_each_channel_in_any_order(start: Start, tmp_path: Path) -> None:
    first, second = make_arrays(2)
    client, _ = start()
    files = {"t2w": pack(tmp_path, second, suffix=".nii"), "T1": pack(tmp_path, first)}
    answer = client.post("/predict", files=files)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/gzip")
    np.testing.assert_array_equal(unpack(tmp_path, answer.content).array, second > first)


def test_a_zip_of_nifti_names_cases_and_channels(start: Start, tmp_path: Path) -> None:
    first, second = make_arrays(2)
    client, _ = start()
    zipped = zip_files(
        {
            "study/a/T1.nii.gz": pack(tmp_path, first),
            "study/a/T2.nii.gz": pack(tmp_path, second),
            "study/b_t1.nii.gz": pack(tmp_path, first),
            "study/notes.txt": b"MARKER^NAME",
        }
    )
    answer = client.post("/predict?format=json", content=zipped)
    assert answer.headers["X-Voxflow-Failed"] == "2"
    content = answer.json()
    assert content["cases"][0]["organ_ml"] == pytest.approx((second > first).sum() * 2 / 1000)
    assert {row["case"]: row["reason"] for row in content["failures"]} == {
        "file 4": "file 4 of the zip is no NIfTI-1 volume",
        "b": "lacks the channel T2 of T1, T2",
    }


def test_a_zip_of_a_study_comes_back_as_overlapping_segments_of_its_pet(start: Start, tmp_path: Path) -> None:
    make_study(tmp_path / "in", 1)
    client, _ = start(PetCtEngine(pet_ct_spec()))
    files = {str(n): path.read_bytes() for n, path in enumerate((tmp_path / "in").rglob("F*"))}
    files |= {"report.txt.gz": gzip.compress(b"text"), "stray.nii.gz": pack(tmp_path, make_arrays(1)[0])}
    answer = client.post("/predict", content=zip_files(files))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")
    seg = pydicom.dcmread(io.BytesIO(answer.content))
    body, tumour = expect_masks(tmp_path / "in/p1")
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["body", "tumour"]
    # Empty frames are left out where any is filled.
    numbers = [
        int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for group in seg.PerFrameFunctionalGroupsSequence
    ]
    voxels = {n: int(seg.pixel_array[[number == n for number in numbers]].sum()) for n in (1, 2)}
    assert voxels == {1: int(body.sum()), 2: int(tumour.sum())}


def test_a_study_without_a_channel_is_a_line_that_names_it(start: Start, tmp_path: Path) -> None:
    make_study(tmp_path / "in", 1)
    client, _ = start(PetCtEngine(pet_ct_spec()))
    files = {str(n): path.read_bytes() for n, path in enumerate((tmp_path / "in/p1/CT").iterdir())}
    answer = client.post("/predict", content=zip_files(files))
    assert answer.status_code == 422
    assert "lacks the channel PET of CT, PET" in answer.json()["error"]


def test_health_names_the_channels_where_there_are_several(start: Start) -> None:
    assert start()[0].get("/health").json()["channels"] == list(NAMES)
    assert "channels" not in start(ThresholdEngine())[0].get("/health").json()


def form(*fields: tuple[str, bytes], boundary: str = "x", end: bytes = b"--x--\r\n") -> tuple[dict[str, str], bytes]:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="MARKER.nii"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in fields
    ]
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, b"".join(parts) + end


def test_what_is_wrong_with_a_form_is_a_line(start: Start, tmp_path: Path) -> None:
    first, second = (pack(tmp_path, array, suffix=".nii") for array in make_arrays(2))
    client, _ = start()
    wrong: dict[str, tuple[int, tuple[dict[str, str], bytes]]] = {
        "lacks the channel T2 of T1, T2": (422, form(("T1", first))),
        "a field of the form is no channel of the model; the fields are T1, T2": (400, form(("PD", first))),
        "the form has the field T1 twice": (400, form(("T1", first), ("t1", second))),
        "the field T2 is no NIfTI-1 volume (.nii, .nii.gz)": (415, form(("T1", first), ("T2", b"MARKER"))),
        "the form ends early, or a part of it has no header": (400, form(("T1", first), end=b"")),
        "the body is not the form that its Content-Type states": (400, form(("T1", first), boundary="y")),
        "the Content-Type of the form states no boundary; curl -F does": (400, form(boundary="")),
        "the form has more than 64 parts": (400, form(*[("T1", b"a")] * 65)),
        "image_0001.nii: the channels T1 and T2 are one image, voxel for voxel": (
            422,
            form(("T1", first), ("T2", first)),
        ),
    }
    for reason, (status, (headers, body)) in wrong.items():
        answer = client.post("/predict", headers=headers, content=body)
        assert (answer.status_code, answer.json()["error"].removeprefix("images/")) == (status, reason)


def test_a_form_is_refused_where_a_case_is_one_image(start: Start, tmp_path: Path) -> None:
    headers, body = form(("image", b"a"))
    answer = start(ThresholdEngine())[0].post("/predict", headers=headers, content=body)
    assert answer.status_code == 415


def test_limits_hold_for_the_sum_of_all_channels(start: Start, tmp_path: Path) -> None:
    """Each of two volumes takes 3 MB unpacked, and 4 are allowed in all."""
    grid = Geometry.from_parts((96, 96, 85), (1, 1, 1))
    empty = np.zeros(grid.size, np.float32)
    empty[0, 0, 0] = 1
    data = pack(tmp_path, empty, grid)
    client, _ = start()
    for headers, body in (
        form(("T1", data), ("T2", data)),
        ({}, zip_files({"T1.nii.gz": data, "T2.nii.gz": data})),
    ):
        answer = client.post("/predict", headers=headers, content=body)
        assert (answer.status_code, answer.json()["error"]) == (
            413,
            "the volumes take 5 MB unpacked, at most 4 are taken",
        )


def test_hostile_names_in_a_zip_stay_in_its_folder(start: Start, tmp_path: Path) -> None:
    first, second = (pack(tmp_path, array) for array in make_arrays(2))
    client, port = start()
    names: dict[str, Any] = {
        "C:/a/../../T1.nii.gz": 400,
        "/etc/T1.nii.gz": 400,
        "..\\T1.nii.gz": 400,
        "/".join("a" * 9) + "/T1.nii.gz": 400,
        ".hidden/" + "n" * 300 + "_T1.nii.gz": 422,
    }
    for name, status in names.items():
        assert client.post("/predict", content=zip_files({name: first})).status_code == status
    assert client.post("/predict", content=zip_files({"a b_T1.nii": first, "a_b_T1.nii": second})).status_code == 400
    whole = zip_files({".x/\u00e9 T1.nii": first, ".x/\u00e9 T2.mha": second})
    assert client.post("/predict", content=whole).status_code == 200
    assert ask(port, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 200


def test_a_zip_lists_failures_beside_masks(start: Start, tmp_path: Path) -> None:
    first, second = (pack(tmp_path, array) for array in make_arrays(2))
    client, _ = start()
    files = {f"{case}_{n:04d}.nii.gz": data for case in "ab" for n, data in enumerate((first, second))}
    answer = client.post("/predict", content=zip_files({**files, "c_0001.nii.gz": second}))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(name for name in archive.namelist() if name.endswith(".nii.gz")) == ["a.nii.gz", "b.nii.gz"]
        assert json.loads(archive.read("failures.json")) == [{"case": "c", "reason": "lacks the channel T1 of T1, T2"}]
