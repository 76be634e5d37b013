"""Applies a decision to the registry: versions, aliases, tags, and the history that a roll-back uses."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.engines import is_machine_bound
from voxflow.errors import ConfigError, DataError
from voxflow.files import write_json
from voxflow.promotion.candidate import PER_CASE
from voxflow.promotion.decision import Decision, JudgedModel, decide
from voxflow.promotion.scores import read_scores
from voxflow.tracking import (
    CHALLENGER,
    CHAMPION,
    RegisteredVersion,
    attach_calibration,
    attach_file,
    fetch_folder,
    find_version,
    read_model_tag,
    register_version,
    remove_alias,
    set_alias,
    tag_model,
    tag_version,
)
from voxflow.trust import has_calibration

if TYPE_CHECKING:
    from voxflow.promotion.candidate import Candidate
    from voxflow.promotion.options import PromoteOptions

HISTORY = "champions"  # tag of the registered model: the versions that were champion, the present one last
ROLLED_BACK = "rolled_back"
TEST_PART = "test_part_sha256"


def judge_candidate(candidate: Candidate, options: PromoteOptions, *, moves_alias: bool) -> Decision:
    """Register a candidate as challenger, compare it with the champion, and write down what comes of it.

    Args:
        candidate: the workspace's present model.
        options: the rules.
        moves_alias: make a challenger that won the champion; otherwise only write that it should be.

    Raises:
        VoxflowError: the registry can't be reached.
    """
    challenger = _register_candidate(candidate)
    champion = find_version(candidate.name, CHAMPION)
    facts = {"challenger": challenger.number, "champion": champion.number if champion else ""}
    if champion is not None and champion.number == challenger.number:
        reason = champion.tags.get("decision_reason", "")
        because = f" ({reason})" if reason else ""
        return Decision("champion", (f"version {champion.number} is the champion already{because}",), facts=facts)
    model = replace(candidate.judged, name=f"version {challenger.number}")
    former = _load_judged_model(champion, candidate.judged.test_part) if champion else None
    decision = decide(model, former, options, candidate.workspace)
    decision = replace(decision, facts=facts | decision.facts | {"decided": _format_now()})
    decision = _hold_back(decision, challenger, moves_alias)
    set_alias(challenger, CHALLENGER)
    record_decision(decision, challenger)
    if decision.verdict == "promoted":
        _make_champion(challenger, champion)
    return decision


def promote_by_hand(name: str, number: str, because: str) -> Decision:
    """Make a version champion without comparing, which is for a person to answer for; parity must have passed.

    Args:
        name: the workspace.
        number: the version's number, or an alias.
        because: why; stands on the version.

    Raises:
        ConfigError: there is no such version, or its parity did not pass.
        VoxflowError: the registry can't be reached.
    """
    version = _require_version(name, number)
    if version.tags.get("parity") != "passed":
        raise ConfigError(f"version {version.number} of {name} did not pass parity, so that it can't be champion")
    champion = find_version(name, CHAMPION)
    facts = {"challenger": version.number, "champion": champion.number if champion else "", "decided": _format_now()}
    decision = Decision("promoted", (f"by hand: {because}",), facts=facts)
    record_decision(decision, version)
    tag_version(version, {ROLLED_BACK: ""})
    if champion is not None and champion.number != version.number:
        # Else the next run of the graph would undo what a person decided.
        tag_version(champion, {ROLLED_BACK: f"{_format_now()} to version {version.number}, by hand: {because}"})
    _make_champion(version, champion)
    return decision


def describe_for_present_model(decision: Decision, champion: RegisteredVersion, digest: str) -> Decision:
    """Say what a person's decision means for the workspace's present model, which its report is about.

    Args:
        decision: the decision by hand, or about a roll-back.
        champion: the version that is champion now.
        digest: SHA-256 of the present model's exported files.
    """
    if champion.digest == digest:
        return decision
    reason = f"version {champion.number} is the champion: {'; '.join(decision.reasons)}"
    facts = {"champion": champion.number, "decided": decision.facts.get("decided", "")}
    return Decision("kept", (reason,), facts=facts)


def roll_back(name: str, because: str = "") -> tuple[RegisteredVersion, RegisteredVersion]:
    """Make the champion before the present one champion again.

    The version that is left does not become champion again by itself.

    Returns:
        The version that was left, and the champion now.

    Raises:
        ConfigError: there is no champion, or none before it.
        VoxflowError: the registry can't be reached.
    """
    present = _require_version(name, CHAMPION)
    history = _read_history(name)
    while history and history[-1] == present.number:
        history.pop()
    while history:
        former = find_version(name, history[-1])
        if former is not None:
            break
        history.pop()  # somebody deleted that version
    else:
        raise ConfigError(f"version {present.number} is the first champion of {name}: there is none to go back to")
    tag_version(
        present, {ROLLED_BACK: f"{_format_now()} to version {former.number}{f': {because}' if because else ''}"}
    )
    set_alias(former, CHAMPION)
    tag_version(former, {ROLLED_BACK: ""})
    tag_model(name, HISTORY, json.dumps(history))
    return present, former


def record_decision(decision: Decision, version: RegisteredVersion) -> None:
    """Put a decision and its numbers on a version, as tags and as decision.json among its files.

    Raises:
        VoxflowError: the registry can't be reached.
    """
    tag_version(version, decision.tags())
    if not version.tags.get("voxflow_files"):
        return  # a version that was registered by other means has no place for files
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "decision.json"
        write_json(path, decision.as_json())
        attach_file(version, path, "decision")


def _register_candidate(candidate: Candidate) -> RegisteredVersion:
    model = candidate.judged
    tags = {
        "workspace": candidate.workspace,
        TEST_PART: model.test_part,
        "parity": "failed" if model.parity else "passed",
    }
    folders = {"export": candidate.export, "parity": candidate.parity}
    version = register_version(
        candidate.name, candidate.run_id, candidate.digest, folders, tags, is_skipped=is_machine_bound
    )
    if candidate.per_case.is_file():
        attach_scores(version, candidate.per_case, model.test_part)
    if has_calibration(candidate.calibration):
        attach_calibration(version, candidate.calibration)
    return version


def attach_scores(version: RegisteredVersion, per_case: Path, test_part: str) -> None:
    """Keep a table of scores by case with a version.

    Args:
        version: the version.
        per_case: per_case.csv of its evaluation.
        test_part: the digest of the test part that it was evaluated on.

    Raises:
        VoxflowError: the registry can't be reached.
    """
    attach_file(version, per_case, _scores_folder(test_part))


def _load_judged_model(version: RegisteredVersion, test_part: str) -> JudgedModel:
    """A version as it was judged on a test part; without scores where it never was on any that is known."""
    name = f"version {version.number}, the champion,"
    for part in dict.fromkeys((test_part, version.tags.get(TEST_PART, ""))):
        try:
            with tempfile.TemporaryDirectory() as scratch:
                folder = fetch_folder(version, _scores_folder(part), Path(scratch) / "scores")
                return JudgedModel(name, read_scores(folder / PER_CASE), part)
        except DataError:
            continue
    return JudgedModel(name, None, "")


def _scores_folder(test_part: str) -> str:
    return f"scores-{test_part[:12]}"


def _hold_back(decision: Decision, challenger: RegisteredVersion, moves_alias: bool) -> Decision:
    """A promotion that must not happen by itself."""
    if decision.verdict != "promoted":
        return decision
    rolled_back = challenger.tags.get(ROLLED_BACK)
    if rolled_back:
        reason = f"version {challenger.number} was rolled back ({rolled_back}) and does not become champion by itself"
    elif not moves_alias:
        reason = "it would be promoted, and waits for `voxflow promote`, since promote.automatic is false"
    else:
        return decision
    return replace(decision, verdict="kept", reasons=(reason, *decision.reasons))


def _make_champion(version: RegisteredVersion, former: RegisteredVersion | None) -> None:
    history = _read_history(version.name)
    if former is not None and history[-1:] != [former.number]:
        history.append(former.number)  # its alias was set by hand
    set_alias(version, CHAMPION)
    tag_model(version.name, HISTORY, json.dumps([*history, version.number]))
    challenger = find_version(version.name, CHALLENGER)
    if challenger is not None and challenger.number == version.number:
        remove_alias(version.name, CHALLENGER)


def _read_history(name: str) -> list[str]:
    try:
        return [str(number) for number in json.loads(read_model_tag(name, HISTORY) or "[]")]
    except (json.JSONDecodeError, TypeError):
        return []


def _require_version(name: str, number: str) -> RegisteredVersion:
    version = find_version(name, number)
    if version is None:
        hint = "the newest model is champion already, or was never registered; " if number == CHALLENGER else ""
        raise ConfigError(f"no version of {name} is called {number!r}; {hint}the MLflow page of the model lists them")
    return version


def _format_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
