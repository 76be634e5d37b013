"""Settings are checked before anything is asked, and hold no secret."""

from __future__ import annotations

import pytest

from voxflow.errors import ConfigError
from voxflow.pacs import IngestOptions, parse_settings
from voxflow.pacs.multipart import parse_boundary
from voxflow.pacs.settings import name_secret_variable


def test_every_fault_is_told_at_once_with_its_place() -> None:
    wrong = {"clinic": {"protocol": "dimse", "host": "pacs", "port": 70000, "aet": "A TITLE THAT IS TOO LONG"}}
    with pytest.raises(ConfigError, match=r"2 wrong parameter(?s:.)*pacs\.clinic\.port(?s:.)*pacs\.clinic\.aet"):
        parse_settings(wrong, "clinic")


def test_a_password_has_no_place_in_the_address() -> None:
    wrong = {"clinic": {"protocol": "dicomweb", "url": "https://user:secret@pacs/dicom-web"}}
    with pytest.raises(ConfigError, match="no user or password in the address"):
        parse_settings(wrong, "clinic")


def test_an_unknown_pacs_names_the_known() -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml: pacs: no PACS 'clinik'; known: clinic"):
        parse_settings({"clinic": {}}, "clinik")


def test_secrets_are_named_after_their_pacs() -> None:
    assert name_secret_variable("old-clinic", "PASSWORD") == "VOXFLOW_PACS_OLD_CLINIC_PASSWORD"


@pytest.mark.parametrize("options", [{}, {"pacs": "a", "folder": "b"}])
def test_studies_come_from_one_place(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected either pacs: NAME or folder: PATH"):
        IngestOptions.model_validate(options)


def test_the_boundary_is_read_with_and_without_quotes() -> None:
    assert parse_boundary('multipart/related; type="application/dicom"; boundary="a-b"') == b"a-b"
    assert parse_boundary("Multipart/Related; boundary=ab; type=x") == b"ab"
    assert parse_boundary("application/dicom") is None


def test_two_pacs_share_no_password() -> None:
    blocks = {
        name: {"protocol": "dicomweb", "url": "https://pacs.example/dicom-web"} for name in ("clinic-2", "clinic_2")
    }
    with pytest.raises(ConfigError, match="would read one VOXFLOW_PACS_CLINIC_2_PASSWORD"):
        parse_settings(blocks, "clinic-2")
