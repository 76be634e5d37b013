"""What one machine pushed to S3, another pulls and has nothing left to run; a backup says what it can't do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.ops.backup import copy_databases
from tests.flows.repository import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator


GRAPH = """
stages:
  one:
    cmd: python -c "import pathlib; pathlib.Path('one').mkdir(); pathlib.Path('one/a').write_text('data')"
    outs: [one]
  two:
    cmd: python -c "import pathlib; pathlib.Path('two').write_text(pathlib.Path('one/a').read_text() * 2)"
    deps: [one]
    outs: [two]
"""
AUTHOR = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]


def run(folder: Path, *command: str, code: int = 0) -> str:
    packages = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    result = subprocess.run(
        command, cwd=folder, env=environment() | packages, capture_output=True, text=True, check=False
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def dvc(folder: Path, *arguments: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *arguments)


def backup(folder: Path, *arguments: str, code: int = 0) -> str:
    return run(folder, sys.executable, "-m", "tasks.ops.backup", *arguments, code=code)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "first"
    folder.mkdir()
    run(folder, "git", "init", "--quiet")
    dvc(folder, "init", "--quiet")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    dvc(folder, "repro", "--quiet")
    return folder


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="moto is not installed (pip install 'moto[s3]')")
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed (pip install 'voxflow[s3]')")
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="voxflow")
    yield address
    server.stop()


@pytest.mark.slow
def test_a_fresh_clone_pulls_from_s3_and_runs_nothing(repository: Path, bucket: str, tmp_path: Path) -> None:
    dvc(repository, "remote", "add", "--default", "s3", "s3://voxflow/store")
    dvc(repository, "remote", "modify", "s3", "endpointurl", bucket)
    run(repository, "git", "add", "--all")
    run(repository, "git", *AUTHOR, "commit", "--quiet", "--message", "one")
    assert "backup: pushed to the default remote" in backup(repository)
    run(tmp_path, "git", "clone", "--quiet", str(repository), "second")
    second = tmp_path / "second"
    assert not (second / "one").exists()
    dvc(second, "pull", "--quiet")
    assert (second / "two").read_text() == "datadata"
    output = dvc(second, "repro")
    assert "Data and pipelines are up to date" in output
    assert "Running stage" not in output


def test_a_backup_without_a_remote_is_wrong_input(repository: Path) -> None:
    assert "backup: error: " in backup(repository, code=2)


def test_databases_are_copied_while_they_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".voxflow/ledger").mkdir(parents=True)
    with sqlite3.connect(".voxflow/ledger/ws.sqlite") as writing:
        writing.execute("CREATE TABLE t (a)")
        writing.execute("INSERT INTO t VALUES (1)")
        writing.commit()
        writing.execute("INSERT INTO t VALUES (2)")
        (copy,) = copy_databases(tmp_path / "copies")
    writing.close()
    reading = sqlite3.connect(copy)
    assert reading.execute("SELECT a FROM t").fetchall() == [(1,)]
    reading.close()
