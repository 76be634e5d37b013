"""The limits of the HTTP service, and the error of a request that exceeds them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from voxflow.bounds import read_limits

MB = 1 << 20

# A body must have come at this rate (bytes a second) once it has been coming for the first so many seconds.
LEAST_RATE = 500
GRACE_SECONDS = 20
HEADER_BYTES = 32_768
HEADERS = 100


class ServeLimits(BaseModel):
    """Bounds on what one request and all together may take.

    Attributes:
        upload_mb: of one request's body; all that are here at once may have ``waiting`` + 1 times as much.
        unpacked_mb: of what a zip or a compressed volume becomes.
        files: in one zip.
        waiting: requests that are accepted beside the one at work; more are told to come back.
        connections: open at once; no more than the process's descriptors allow.
        header_seconds: for the header of a request to arrive.
        upload_seconds: for one body to arrive.
        idle_seconds: that a connection stays open between two requests.
        send_seconds: that a client may take none of its response.
        stop_seconds: for the accepted requests to be answered once the service is told to stop.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_mb: PositiveInt = Field(default_factory=lambda: read_limits().upload_mb)
    unpacked_mb: PositiveInt = Field(default_factory=lambda: read_limits().unpacked_mb)
    files: PositiveInt = Field(default_factory=lambda: read_limits().upload_files)
    waiting: PositiveInt = 8
    connections: PositiveInt = 500
    header_seconds: PositiveFloat = 20.0
    upload_seconds: PositiveFloat = 300.0
    idle_seconds: PositiveInt = 30
    send_seconds: PositiveFloat = 60.0
    stop_seconds: PositiveInt = 300


class RefusedError(Exception):
    """A request that is not served.

    Attributes:
        status: the HTTP status code.
        headers: of the response, beside the usual ones.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
