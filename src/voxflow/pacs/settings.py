"""The settings of a PACS: one entry below ``pacs`` in params.yaml. Secrets come from the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from voxflow.errors import ConfigError
from voxflow.findings import FindingCollector
from voxflow.places import PARAMS

if TYPE_CHECKING:
    from collections.abc import Mapping

Port = Annotated[int, Field(ge=1, le=65535)]
# DICOM PS3.5, value representation AE: at most 16 characters, no backslash, no control characters.
AeTitle = Annotated[str, Field(pattern=r"^[ -\[\]-~]{1,16}$")]


class DicomWebSettings(BaseModel):
    """A PACS that speaks DICOMweb.

    Attributes:
        protocol: "dicomweb".
        url: the root of its services, such as ``https://pacs.example/dicom-web``.
        user: for basic authentication; the password is ``VOXFLOW_PACS_NAME_PASSWORD``. A bearer token in
            ``VOXFLOW_PACS_NAME_TOKEN`` is used in its place.
        ca: a file of certificates that its own is signed by; None: those that the system trusts.
        timeout_s: how long it may stay silent.
        connections: objects that are fetched at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Literal["dicomweb"]
    url: str
    user: str | None = None
    ca: Path | None = None
    timeout_s: float = Field(default=60, gt=0)
    connections: int = Field(default=4, ge=1, le=32)

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address such as https://pacs.example/dicom-web")
        if parts.username or parts.password:
            raise ValueError("no user or password in the address: user: NAME, and the password in the environment")
        return value.rstrip("/")


class DimseSettings(BaseModel):
    """A PACS that speaks the classic services: C-FIND, C-MOVE, C-STORE.

    Attributes:
        protocol: "dimse".
        host, port: where it listens.
        aet: its application entity title.
        own_aet: ours; the PACS must know it, with our address and ``receive_port``, to send to us.
        receive_host, receive_port: where we listen while it sends.
        timeout_s: how long it may stay silent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Literal["dimse"]
    host: str
    port: Port = 104
    aet: AeTitle
    own_aet: AeTitle = "VOXFLOW"
    receive_host: str = "127.0.0.1"
    receive_port: Port = 11112
    timeout_s: float = Field(default=60, gt=0)


PacsSettings = Annotated[DicomWebSettings | DimseSettings, Field(discriminator="protocol")]
_ADAPTER: TypeAdapter[DicomWebSettings | DimseSettings] = TypeAdapter(PacsSettings)


def parse_settings(blocks: Mapping[str, Any] | None, name: str) -> DicomWebSettings | DimseSettings:
    """Read the entry ``name`` of the block ``pacs``.

    Raises:
        ConfigError: there is none, or values of it are wrong; all of those at once.
    """
    blocks = blocks or {}
    if name not in blocks:
        names = ", ".join(sorted(blocks)) or "none"
        raise ConfigError(f"no PACS {name!r}; known: {names}", path=PARAMS, where="pacs")
    variable = name_secret_variable(name, "PASSWORD")
    if others := [other for other in blocks if other != name and name_secret_variable(other, "PASSWORD") == variable]:
        message = f"{name!r} and {others[0]!r} would read one {variable}; call them by names that differ in letters"
        raise ConfigError(message, path=PARAMS, where="pacs")
    try:
        return _ADAPTER.validate_python(blocks[name])
    except ValidationError as error:
        findings = FindingCollector(PARAMS)
        protocol = blocks[name].get("protocol") if isinstance(blocks[name], dict) else None
        models: dict[str, type[BaseModel]] = {"dicomweb": DicomWebSettings, "dimse": DimseSettings}
        findings.add_validation(error, f"pacs.{name}", skip=1, model=models.get(str(protocol)))
        findings.raise_errors(f"{error.error_count()} wrong parameter(s)")
        raise


def read_secret(name: str, kind: Literal["PASSWORD", "TOKEN"]) -> str | None:
    """Read a secret of a PACS from the environment; None where it is not set, or empty.

    Args:
        name: of the entry below ``pacs``.
        kind: a password for basic authentication, or a bearer token.
    """
    return os.environ.get(name_secret_variable(name, kind)) or None


def name_secret_variable(name: str, kind: Literal["PASSWORD", "TOKEN"]) -> str:
    """Name the variable of the environment that holds a secret of a PACS.

    Example:
        >>> name_secret_variable("clinic-2", "PASSWORD")
        'VOXFLOW_PACS_CLINIC_2_PASSWORD'
    """
    return f"VOXFLOW_PACS_{re.sub(r'[^A-Z0-9]', '_', name.upper())}_{kind}"
