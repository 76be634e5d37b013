"""Collects what a run was made from: parameters as flat text, the git commit, digests of dvc.lock and the datalist."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.naming import make_metric_name
from voxflow.redaction import hide_secrets, hide_values
from voxflow.tracking.sweeps import BASELINE, EXPERIMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_VALUE = 5900  # MLflow refuses parameters of more than 6,000 characters.
NONE = "none"
# What a scheduler tells the stages that it starts: which of its runs they belong to, and that run's page. They become
# tags of the MLflow run and stand in no file, so that what a stage makes is the same whoever started it.
FLOW_RUN, FLOW_RUN_PAGE = "VOXFLOW_FLOW_RUN", "VOXFLOW_FLOW_RUN_URL"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into dotted names.

    Args:
        values: mappings of any depth; an empty mapping is a value.
        prefix: put before every name.

    Example:
        >>> flatten({"seed": 0, "set": {"epochs": 3, "train": {"loss": "Dice"}}})
        {'seed': 0, 'set.epochs': 3, 'set.train.loss': 'Dice'}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def to_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Flatten parameters to what MLflow accepts; secrets are masked, so that a run may be shown to anyone.

    Example:
        >>> to_params({"convert": {"pseudonym_key": "abc"}, "note": "5 % of cases"})
        {'convert.pseudonym_key': '***', 'note': '5 % of cases'}
    """
    # The pseudonym key would let anyone who reads the runs test guesses of patients' names.
    return {make_metric_name(key): str(value)[:LONGEST_VALUE] for key, value in flatten(hide_values(values)).items()}


def read_provenance(datalist: Path | None) -> dict[str, str]:
    """The tags of a run; a file or a repository that is not there is "none".

    Args:
        datalist: the datalist file that the training reads.
    """
    status = _run_git("status", "--porcelain")
    return _read_experiment_tags() | {
        "git_commit": _run_git("rev-parse", "HEAD") or NONE,
        "git_dirty": NONE if status is None else str(bool(status)).lower(),
        "dvc_lock_sha256": _digest_file(Path("dvc.lock")),
        "datalist_sha256": _digest_file(datalist),
    }


def read_flow_run_tags(prefix: str = "") -> dict[str, str]:
    """The tags that lead back to the scheduler's run; nothing where a stage was started by hand.

    Args:
        prefix: of the tags' names.
    """
    values = {"flow_run": os.environ.get(FLOW_RUN), "flow_run_url": os.environ.get(FLOW_RUN_PAGE)}
    return {f"{prefix}{tag}": hide_secrets(value) for tag, value in values.items() if value}


def _read_experiment_tags() -> dict[str, str]:
    """Which experiment of DVC this is, under the name that ``dvc exp show`` lists; nothing outside of one."""
    values = {EXPERIMENT: os.environ.get("DVC_EXP_NAME"), BASELINE: os.environ.get("DVC_EXP_BASELINE_REV")}
    return {tag: value for tag, value in values.items() if value} if values[EXPERIMENT] else {}


def _digest_file(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else NONE


def _run_git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
