"""One Orthanc for the tests of this folder, emptied between them."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.pacs.orthanc import PASSWORD, Orthanc, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def orthanc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc") / "server") as server:
        yield server


@pytest.fixture
def orthanc(orthanc_server: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orthanc]:
    monkeypatch.setenv("VOXFLOW_PACS_CLINIC_PASSWORD", PASSWORD)
    yield orthanc_server
    for study in orthanc_server.get("/studies"):
        request = urllib.request.Request(f"http://127.0.0.1:{orthanc_server.http}/studies/{study}", method="DELETE")
        orthanc_server._opener().open(request, timeout=20)
