"""A PACS that speaks DICOMweb (PS3.18): QIDO-RS to find, WADO-RS to fetch, STOW-RS to store, each object as it is."""

from __future__ import annotations

import contextlib
import secrets
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx

from voxflow.errors import ConfigError, PacsError
from voxflow.files import atomic_path
from voxflow.pacs.archive import RemoteSeries, accept_uid, check_uid
from voxflow.pacs.multipart import parse_boundary, read_single_part
from voxflow.pacs.received import check_received
from voxflow.pacs.settings import name_secret_variable, read_secret

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from voxflow.pacs.archive import Query
    from voxflow.pacs.settings import DicomWebSettings

PAGE = 200
# 8.4.1.1: the object as the archive holds it, whatever its transfer syntax.
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
STUDY_UID, SERIES_UID, SOP_UID = "0020000D", "0020000E", "00080018"
MODALITY, DESCRIPTION, COUNT = "00080060", "0008103E", "00201209"
FAILED, FAILURE_REASON = "00081198", "00081197"
DUPLICATE = 0x0111
JSON = {"Accept": "application/dicom+json"}
TEMPORARY_STATUSES = (408, 425, 429)
_BLOCK = 1 << 20


class DicomWebArchive:
    """A PACS that speaks DICOMweb, as an archive.

    Args:
        name: of the entry below ``pacs`` in params.yaml.
        settings: its address and user; secrets come from the environment.

    Raises:
        ConfigError: its certificates can't be read.
    """

    def __init__(self, name: str, settings: DicomWebSettings) -> None:
        self.name = f"{name} ({settings.url})"
        self._pacs, self._settings = name, settings
        token, password = read_secret(name, "TOKEN"), read_secret(name, "PASSWORD")
        auth = httpx.BasicAuth(settings.user, password or "") if settings.user and not token else None
        try:
            verify = ssl.create_default_context(cafile=str(settings.ca)) if settings.ca else True
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"pacs.{name}.ca: no usable certificates: {error}", path=settings.ca) from error
        self._client = httpx.Client(
            auth=auth,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=settings.timeout_s,
            verify=verify,
            # A PACS is in this house; a proxy for the way out has no business here.
            trust_env=False,
        )

    def find(self, query: Query) -> Iterator[RemoteSeries]:
        """Find series by QIDO-RS, study by study: the date is a study's."""
        dates = query.format_date_range()
        series_uids = set()
        for modality in query.modalities or ("",):
            keys = {"StudyDate": dates, "ModalitiesInStudy": modality}
            for study in self._search("/studies", keys, includefield=()):
                study_uid = _read_value(study, STUDY_UID)
                if not accept_uid(study_uid, self.name, "study"):
                    continue
                of_study = f"/studies/{study_uid}/series"
                for series in self._search(of_study, {"Modality": modality}, includefield=(DESCRIPTION, COUNT)):
                    remote_series = self._parse_series(study_uid, series)
                    is_new = remote_series.series_uid not in series_uids
                    if is_new and accept_uid(remote_series.series_uid, self.name, "series"):
                        series_uids.add(remote_series.series_uid)
                        yield remote_series

    def list_instances(self, series: RemoteSeries) -> list[str]:
        """List SOPInstanceUIDs by QIDO-RS."""
        answers = self._search(f"{_build_series_path(series)}/instances", {}, includefield=())
        return [check_uid(_read_value(instance, SOP_UID), self.name) for instance in answers]

    def fetch(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Fetch objects by WADO-RS, several at a time, each in the transfer syntax that the archive holds it in.

        Raises:
            PacsError: one did not come whole; those that are not begun are given up.
            ConfigError: the archive does not let us in.
        """
        with ThreadPoolExecutor(self._settings.connections) as pool:
            futures = [pool.submit(self._fetch_one, series, uid, folder) for uid in sop_uids]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def store(self, files: Sequence[Path]) -> None:
        """Send DICOM files by STOW-RS, one a request.

        Raises:
            PacsError: one is refused, or the connection is lost.
            ConfigError: the archive does not let us in.
        """
        for file in files:
            boundary = secrets.token_hex(16)
            headers = {
                "Accept": "application/dicom+json",
                # STOW-RS (PS3.18 10.5): one part an object.
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            }
            with self._translate_errors(f"store {file.name}"):
                answer = self._client.post(
                    f"{self._settings.url}/studies", content=_stream_one_part(file, boundary), headers=headers
                )
                # 409 comes with the list of what was not stored and why.
                if answer.status_code != 409:
                    self._check_status(answer, "store")
                self._check_stored(answer, file)

    def acknowledge(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Do nothing: a PACS keeps what it holds."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _fetch_one(self, series: RemoteSeries, uid: str, folder: Path) -> None:
        address = f"{self._settings.url}{_build_series_path(series)}/instances/{uid}"
        with (
            self._translate_errors(f"fetch {uid}"),
            atomic_path(folder / f"{uid}.dcm") as temporary,
            self._client.stream("GET", address, headers={"Accept": AS_STORED}) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
            self._check_status(answer, "fetch")
            boundary = parse_boundary(answer.headers.get("content-type", ""))
            if not read_single_part(answer.iter_bytes(_BLOCK), boundary, temporary):
                raise PacsError(f"{self.name}: fetch {uid}: the answer was cut off", lost=True)
            check_received(temporary, uid, self.name)

    def _search(self, path: str, keys: dict[str, str], includefield: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        offset = 0
        first = None
        while True:
            parameters = {key: value for key, value in keys.items() if value}
            page: dict[str, int | tuple[str, ...]] = {"includefield": includefield, "limit": PAGE, "offset": offset}
            with self._translate_errors(f"search {path}"):
                answer = self._client.get(
                    f"{self._settings.url}{path}",
                    params={**parameters, **page},
                    headers={"Accept": "application/dicom+json"},
                )
                self._check_status(answer, "search")
                items = self._parse_json(answer) if answer.status_code != 204 else []
            # An archive that ignores the offset sends its first page again and again.
            if not items or items[0] == first:
                return
            first = first or items[0]
            yield from items
            if len(items) < PAGE:
                return
            # By what came, since an archive may hold pages smaller than asked for.
            offset += len(items)

    def _parse_series(self, study_uid: str, item: dict[str, Any]) -> RemoteSeries:
        count = _read_value(item, COUNT)
        return RemoteSeries(
            study_uid,
            _read_value(item, SERIES_UID),
            _read_value(item, MODALITY),
            _read_value(item, DESCRIPTION),
            int(count) if count.isdecimal() else None,
        )

    def _parse_json(self, answer: httpx.Response) -> list[dict[str, Any]]:
        try:
            items = answer.json()
        except (ValueError, RecursionError):
            items = None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            content_type = answer.headers.get("content-type", "nothing")
            raise ConfigError(f"{self.name}: the answer is no DICOM JSON but {content_type}; is the address right?")
        return items

    @contextlib.contextmanager
    def _translate_errors(self, request: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise PacsError(f"{self.name}: {request}: {error or type(error).__name__}", lost=True) from error

    def _check_status(self, answer: httpx.Response, request: str) -> None:
        status = answer.status_code
        if status in (200, 202, 204):
            return
        message = f"{self.name}: {request}: {status} {answer.reason_phrase}"
        if status in (401, 403):
            variable = name_secret_variable(self._pacs, "PASSWORD")
            raise ConfigError(f"{message}; is pacs.{self._pacs}.user right, and {variable} set?")
        if status == 404 and request == "search":
            raise ConfigError(f"{message}; there is no DICOMweb at this address")
        raise PacsError(message, lost=status >= 500 or status in TEMPORARY_STATUSES)

    def _check_stored(self, answer: httpx.Response, file: Path) -> None:
        try:
            content = answer.json() if answer.content else {}
        except (ValueError, RecursionError):
            content = {}
        failed = content.get(FAILED, {}).get("Value", []) if isinstance(content, dict) else []
        reasons = {int(_read_value(item, FAILURE_REASON) or 0) for item in failed} - {DUPLICATE}
        if reasons or (answer.status_code == 409 and not failed):
            codes = ", ".join(f"{reason:#06x}" for reason in sorted(reasons)) or "no reason given"
            raise PacsError(f"{self.name}: store {file.name}: refused ({codes})")


def _build_series_path(series: RemoteSeries) -> str:
    return f"/studies/{series.study_uid}/series/{series.series_uid}"


def _read_value(item: dict[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _stream_one_part(file: Path, boundary: str) -> Iterator[bytes]:
    yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block
    yield f"\r\n--{boundary}--\r\n".encode()
