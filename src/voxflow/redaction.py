"""Hides secrets in texts for people: lines, logs, pages, records. One function does it, at every door.

Secrets come in three ways: inside an address (``https://user:password@host``, ``?password=...``), as the value of an
environment variable whose name says so (``MLFLOW_TRACKING_PASSWORD``), and under a key of a mapping.
"""

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# Shorter values are words that lines hold anyway.
SHORTEST = 6
_KEY = re.compile(r"(passw(or)?d|passphrase|pwd|secret|token|(api|access|pseudonym|private)_?key)$", re.IGNORECASE)
_VARIABLE = re.compile(r"(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_KEY|ACCESS_KEY|PSEUDONYM_KEY)$")
# User and password stand before the last "@" of what names the host. People forget to escape a slash in a password;
# "host:5000/a@b" is a port and a path. A forgotten colon ("postgres//") makes no address, but shows the password.
_USER = re.compile(r"(?<=[^/]//)(?:[^\s/?#'\"<>]*@|[^\s/?#'\"<>@:]*:(?!\d+(?:[/?#\s'\"<>]|$))[^\s'\"<>@]*@)")
_QUERY = re.compile(
    r"(?P<key>(?<=[?&;])[^=&;\s]*(?:password|passwd|pwd|passphrase|secret|token|signature|credential|api_?key)=)"
    r"[^&;\s'\"<>#]+",
    re.IGNORECASE,
)


def hide_secrets(text: str) -> str:
    """The text without the users, passwords and tokens of addresses, and without the secrets of the environment.

    Example:
        >>> hide_secrets("postgresql+psycopg2://me:secret@db.hospital/mlflow?sslpassword=x is away")
        'postgresql+psycopg2://db.hospital/mlflow?sslpassword=*** is away'
        >>> hide_secrets("http://mlflow.hospital:5000/models/spleen@champion")
        'http://mlflow.hospital:5000/models/spleen@champion'
    """
    if "//" in text:
        text = _QUERY.sub(rf"\g<key>{HIDDEN}", _USER.sub("", text))
    for value in _read_environment():
        text = text.replace(value, HIDDEN)
    return text


def hide_values(value: Any, key: str = "") -> Any:
    """A mapping, a list or a value of a configuration without its secrets.

    Args:
        value: of any depth.
        key: under which it stands; a name such as ``pseudonym_key`` or ``password`` hides it.

    Example:
        >>> hide_values({"pseudonym_key": "abc", "stores": [{"uri": "https://a:b@host/", "token": "x"}], "epochs": 3})
        {'pseudonym_key': '***', 'stores': [{'uri': 'https://host/', 'token': '***'}], 'epochs': 3}
    """
    if value is not None and _KEY.search(key):
        return HIDDEN
    if isinstance(value, Mapping):
        return {name: hide_values(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide_values(inner) for inner in value]
    return hide_secrets(value) if isinstance(value, str) else value


class SecretFilter(logging.Filter):
    """Hides secrets in the records of a log's handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record's message."""
        record.msg, record.args = hide_secrets(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = hide_secrets(logging.Formatter().formatException(record.exc_info))
        return True


def _read_environment() -> list[str]:
    """The secrets that variables hold, the longest first."""
    values = {value for name, value in os.environ.items() if _VARIABLE.search(name) and len(value) >= SHORTEST}
    return sorted(values, key=len, reverse=True)
