"""A run whose process is gone is scheduled anew; one that lives, has ended or takes its worker along is not."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Crashed, Pending, Running

from flows.recovery import take_up_again

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from prefect.client.schemas.objects import State

    from tests.flows.conftest import Server


@pytest.fixture
def client(server: Server) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: server.address}), get_client(sync_client=True) as opened:
        yield opened


@pytest.fixture
def deployment(client: SyncPrefectClient) -> UUID:
    return client.create_deployment(client.create_flow_from_name("recovery"), "recovery")


def left(client: SyncPrefectClient, deployment: UUID, folder: Path, *states: State) -> UUID:
    """A run that went through states, and its lock."""
    run = client.create_flow_run_from_deployment(deployment).id
    for state in states:
        client.set_flow_run_state(run, state, force=True)
    (folder / f"{run}.lock").touch()
    return run


def state_of(client: SyncPrefectClient, run: UUID) -> str | None:
    return client.read_flow_run(run).state_name


@pytest.mark.parametrize("last", [Running(), Crashed()])
def test_a_run_whose_process_is_gone_is_scheduled_anew(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path, last: State
) -> None:
    run = left(client, deployment, tmp_path, Running(), last)
    (line,) = take_up_again(tmp_path)
    assert line.endswith("its process was gone, it is taken up again")
    assert state_of(client, run) == "TakenUpAgain"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_has_ended_stays_so(client: SyncPrefectClient, deployment: UUID, tmp_path: Path) -> None:
    run = left(client, deployment, tmp_path, Running(), Completed())
    (tmp_path / "00000000-0000-4000-8000-000000000000.lock").touch()
    assert take_up_again(tmp_path) == []
    assert state_of(client, run) == "Completed"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_lives_is_left_alone(client: SyncPrefectClient, deployment: UUID, tmp_path: Path) -> None:
    run = left(client, deployment, tmp_path, Running())
    with (tmp_path / f"{run}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert take_up_again(tmp_path, patience_s=0) == []
    assert state_of(client, run) == "Running"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_that_was_begun_too_often_is_given_up(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path
) -> None:
    run = left(client, deployment, tmp_path, *[Pending(), Running()] * 3)
    (line,) = take_up_again(tmp_path)
    assert "begun 3 times" in line
    assert state_of(client, run) == "Crashed"
