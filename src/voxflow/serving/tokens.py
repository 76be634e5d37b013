"""The token that clients show where the service is open to other machines."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
from typing import TYPE_CHECKING

from voxflow.errors import ConfigError
from voxflow.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "VOXFLOW_SERVE_TOKEN"
LEAST_LENGTH = 16
# What a header may carry behind "Bearer" (RFC 6750, section 2.1).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def load_token(path: Path | None) -> str | None:
    """Read the token from a file, else from the environment, where processes that this one starts no longer find it.

    Args:
        path: a file that holds the token alone; None: the variable VOXFLOW_SERVE_TOKEN counts.

    Returns:
        None where neither is there: nobody has to show one.

    Raises:
        ConfigError: the file can't be read, or the token is empty, short, or holds what a header can't carry. The
            message never holds the token.
    """
    value = os.environ.pop(VARIABLE, None)
    source = VARIABLE
    if path is not None:
        source = str(path)
        try:
            value = read_text(path)
        except OSError as error:
            raise ConfigError(f"the token file can't be read: {error.strerror}", path=path) from error
    if value is None:
        return None
    token = value.strip()
    if len(token) < LEAST_LENGTH or not _TOKEN.fullmatch(token):
        message = f"a token has {LEAST_LENGTH} or more letters, digits and -._~+/, as `openssl rand -hex 32` makes them"
        raise ConfigError(f"{message}; received {len(token)} characters", where=source)
    return token


def has_token(authorization: bytes, token: str) -> bool:
    """Whether a header Authorization shows the token; takes as long for a wrong one as for the right one."""
    scheme, _, credentials = authorization.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(credentials.strip(), token.encode("ascii"))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("ct.clinic")
        (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
