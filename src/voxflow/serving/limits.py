"""The limits of the HTTP service, and the error of a request that exceeds them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

MB = 1 << 20


class ServeLimits(BaseModel):
    """Bounds on what one request and all together may take.

    Attributes:
        upload_mb: of one request's body.
        unpacked_mb: of what a zip or a compressed volume becomes.
        files: in one zip.
        waiting: requests that are accepted beside the one at work; more are told to come back.
        upload_seconds: for one body to arrive.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_mb: PositiveInt = 1024
    unpacked_mb: PositiveInt = 4096
    files: PositiveInt = 20_000
    waiting: PositiveInt = 8
    upload_seconds: PositiveFloat = 300


class RefusedError(Exception):
    """A request that is not served.

    Attributes:
        status: the HTTP status code.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
