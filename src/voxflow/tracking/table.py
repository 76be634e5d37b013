"""Logs tables by case in the form that MLflow's pages show and compare row by row."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

LOGGED_ARTIFACTS = "mlflow.loggedArtifacts"  # MLflow's tag: which artifacts its pages show as tables


def log_table(client: Any, run_id: str, path: Path, name: str) -> None:
    """Keep a CSV as a table of a run, in the form of ``mlflow.log_table``; one that is there is replaced.

    MLflow's own call adds to a table that is there, so that a stage which ran twice would show each case twice.

    Args:
        client: MLflow's.
        run_id: the run.
        path: the CSV.
        name: the artifact, such as ``test/per_case.json``.
    """
    import pandas as pd

    folder, _, file = name.rpartition("/")
    with tempfile.TemporaryDirectory() as scratch:
        pd.read_csv(path).to_json(Path(scratch) / file, orient="split", index=False)
        client.log_artifact(run_id, str(Path(scratch) / file), folder or None)
    tables = json.loads(client.get_run(run_id).data.tags.get(LOGGED_ARTIFACTS, "[]"))
    entry = {"path": name, "type": "table"}
    if entry not in tables:
        client.set_tag(run_id, LOGGED_ARTIFACTS, json.dumps([*tables, entry]))
