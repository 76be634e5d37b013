"""A real Orthanc with its DICOMweb plugin on free ports of this machine; a skip with its reason where it is missing."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ports import reserve_port
from voxflow.pacs import open_archive, parse_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLUGINS = (Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"), Path("/usr/lib/orthanc/libOrthancDicomWeb.so"))
PATIENCE_S = 60.0
USER, PASSWORD = "voxflow", "not-a-secret"


def find_orthanc() -> tuple[str, Path]:
    """The program and its plugin, or a skip."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    plugin = next((path for path in PLUGINS if path.is_file()), None)
    if program is None or plugin is None:
        pytest.skip("Orthanc with DICOMweb is missing: make test-services installs it")
    return program, plugin


@dataclass
class Orthanc:
    """A server that can be killed and started again with what it holds."""

    folder: Path
    program: str
    plugin: Path
    http: int
    dicom: int
    receiver: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def web(self) -> dict[str, Any]:
        """Its entry in params.yaml by DICOMweb."""
        return {"protocol": "dicomweb", "url": f"http://127.0.0.1:{self.http}/dicom-web", "user": USER, "timeout_s": 20}

    @property
    def dimse(self) -> dict[str, Any]:
        """Its entry in params.yaml by DIMSE."""
        ours = {"own_aet": "VOXFLOW", "receive_port": self.receiver, "timeout_s": 20}
        return {"protocol": "dimse", "host": "127.0.0.1", "port": self.dicom, "aet": "ORTHANC"} | ours

    def start(self) -> Orthanc:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "orthanc.json").write_text(json.dumps(self._settings()))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.program, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, "Orthanc did not start"
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def get(self, path: str) -> Any:
        return json.loads(self.raw(path))

    def raw(self, path: str) -> bytes:
        with self._opener().open(f"http://127.0.0.1:{self.http}{path}", timeout=20) as response:
            return bytes(response.read())

    def post(self, path: str, content: bytes) -> None:
        """Send bytes by Orthanc's own interface."""
        self._opener().open(urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", content), timeout=20)

    def upload(self, files: Sequence[Path]) -> None:
        """C-STORE, as a scanner would, on a connection of its own."""
        settings = parse_settings({"scanner": self.dimse | {"own_aet": "SCANNER"}}, "scanner")
        with open_archive("scanner", settings) as scanner:
            scanner.store(files)

    def series(self, modality: str) -> list[dict[str, Any]]:
        """Study, series and objects of a modality."""
        series_ids = [
            series_id for series_id in self.get("/series?expand") if series_id["MainDicomTags"]["Modality"] == modality
        ]
        return [
            {
                "series": series_id["MainDicomTags"]["SeriesInstanceUID"],
                "study": self.get(f"/studies/{series_id['ParentStudy']}")["MainDicomTags"]["StudyInstanceUID"],
                "instances": series_id["Instances"],
            }
            for series_id in series_ids
        ]

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except (urllib.error.URLError, OSError):
            return False

    def _opener(self) -> urllib.request.OpenerDirector:
        manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
        manager.add_password(None, f"http://127.0.0.1:{self.http}/", USER, PASSWORD, is_authenticated=True)
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(manager)
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {"voxflow": ["VOXFLOW", "127.0.0.1", self.receiver]},
            "Plugins": [str(self.plugin)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "StableAge": 1,
        }


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    program, plugin = find_orthanc()
    server = Orthanc(folder, program, plugin, reserve_port(), reserve_port(), reserve_port())
    try:
        yield server.start()
    finally:
        server.kill()
