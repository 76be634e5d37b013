"""Passwords of stores and services reach no line, log, page, file or command line."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from tasks.common.stage import run_guarded
from tasks.ops import serve
from voxflow.cli.main import main
from voxflow.errors import VoxflowError
from voxflow.progress import say
from voxflow.redaction import SecretFilter, hide_secrets, hide_values
from voxflow.tracking import begin_run, find_pages_address, find_run_pages, materialise_champion, write_run_file
from voxflow.tracking.provenance import to_params
from voxflow.tracking.tracker import move_credentials

SECRET = "very-" + "s3cret"


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "VOXFLOW_MLFLOW_URL"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{SECRET}@host:5000/x",
        f"https://{SECRET}@host/x",
        f"https://:{SECRET}@host",
        f"postgresql+psycopg2://me:{SECRET}@host/mlflow",
        f"postgresql://me:pa@{SECRET}@host/mlflow",
        f"postgresql://me:pa/{SECRET}@host/mlflow",
        f"postgresql://me:pa#{SECRET}?@host/mlflow",
        f"postgresql:///mlflow?host=host&user=me&password={SECRET}",
        f"mysql://host/db?ssl_ca=a&sslpassword={SECRET}&x=1",
        f"s3://host/bucket?X-Amz-Signature={SECRET}",
        f"https://host/a?access_token={SECRET}#x",
        f"two: http://a:{SECRET}@host/ and 'http://b:{SECRET}@host'",
        f"HTTPConnectionPool(host='host'): API request to http://me:{SECRET}@host/api failed",
    ],
)
def test_an_address_is_shown_without_its_secret(text: str) -> None:
    shown = hide_secrets(text)
    assert SECRET not in shown
    assert "host" in shown


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/models/spleen@champion",
        "https://host/a/b@c/d?x=1&tokens=3",
        "models:/spleen@champion",
        "file:///data/a@b/mlartifacts/1",
        "sqlite:///mlflow.db",
        "sqlite:////home/a@b/mlflow.db",
        "mail to a@b.org: http://host:80",
        "password=x",
    ],
)
def test_an_address_without_a_secret_stays(text: str) -> None:
    assert hide_secrets(text) == text


def test_secrets_of_the_environment_are_hidden_but_not_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXFLOW_PACS_CLINIC_PASSWORD", SECRET)
    monkeypatch.setenv("SHORT_TOKEN", "ct")
    monkeypatch.setenv("A_TOKEN_FILE", "/run/secrets/token")
    text = f"ct of /run/secrets/token: {SECRET}"
    assert hide_secrets(text) == "ct of /run/secrets/token: ***"


def test_values_under_secret_keys_are_hidden_at_any_depth() -> None:
    block = {"convert": {"pseudonym_key": SECRET}, "pacs": [{"password": SECRET, "url": f"http://a:{SECRET}@h"}]}
    assert SECRET not in json.dumps(hide_values(block))
    assert SECRET not in str(to_params(block))
    assert to_params({"pseudonym_key": None, "tokens": 3}) == {"pseudonym_key": "None", "tokens": "3"}


def test_every_door_hides(capfd: pytest.CaptureFixture[str]) -> None:
    address = f"http://me:{SECRET}@host/"
    say(f"lost {address}")
    assert str(VoxflowError(address)) == "http://host/"

    def fail() -> int:
        raise VoxflowError(address) from ValueError(address)

    assert run_guarded("train x", fail, debug=True) == 1
    handler = logging.StreamHandler()
    handler.addFilter(SecretFilter())
    logger = logging.getLogger("secrets")
    logger.addHandler(handler)
    try:
        raise ValueError(address)
    except ValueError:
        logger.exception("lost %s", address)
    finally:
        logger.removeHandler(handler)
    output = capfd.readouterr()
    assert "http://host/" in output.err
    assert SECRET not in output.err + output.out
    assert "ValueError" in output.err


@pytest.mark.parametrize(
    "uri",
    [
        f"http://me:{SECRET}@127.0.0.1:1",
        f"postgresql+psycopg2://me:{SECRET}@127.0.0.1:1/mlflow",
        f"postgresql://me:a/{SECRET}@127.0.0.1:1/mlflow",
        f"postgres//me:{SECRET}@127.0.0.1:1/mlflow",
    ],
)
def test_a_store_that_is_away_is_said_without_its_password(
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "params.yaml").write_text("workspaces:\n  spleen: {task: segmentation}\n")
    assert SECRET not in (find_pages_address() or "")
    with begin_run("spleen", params={"store": uri}) as tracker:
        tracker.log_metrics({"loss": 1.0})
        tracker.log_tags({"store": uri})
        write_run_file(tmp_path / "run.json", tracker, "spleen")
    errors = []
    for work in (lambda: materialise_champion("spleen", tmp_path / "champion"), lambda: find_run_pages("1" * 32)):
        with pytest.raises(VoxflowError) as caught:
            work()
        errors.append(str(caught.value))
    for command in (
        ["compare", "spleen@champion", "spleen@challenger"],
        ["promote", "spleen"],
        ["index"],
    ):
        main(["--debug", *command])
    output = capfd.readouterr()
    texts = [output.out, output.err, caplog.text, *errors]
    texts += [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert "the MLflow store can't be used" in output.err
    assert [text for text in texts if SECRET in text] == []


def test_a_servers_password_leaves_the_address_for_variables_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://a%40b:c%2Fd@mlflow.hospital:5000/x")
    move_credentials()
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    assert [os.environ[name] for name in names] == ["https://mlflow.hospital:5000/x", "a@b", "c/d"]
    move_credentials()
    assert [os.environ[name] for name in names][2] == "c/d"


def test_no_program_of_make_serve_has_the_store_on_its_command_line() -> None:
    services = serve.list_services(1, 2, f"postgresql://me:{SECRET}@host/x")
    assert [service.name for service in services] == ["Prefect server", "MLflow", "Prefect worker"]
    assert SECRET not in str([service.command for service in services])
    assert services[1].variables == {"MLFLOW_BACKEND_STORE_URI": f"postgresql://me:{SECRET}@host/x"}


def test_the_servers_of_a_department_have_no_password_on_a_command_line() -> None:
    compose = (Path(serve.__file__).parents[2] / "deploy/compose.yaml").read_text()
    commands = compose.split("command:")[1:]
    assert len(commands) == 2
    assert not [command for command in commands if "PASSWORD" in command.partition("environment:")[0]]
