"""Checks a workspace of ``kind: adopted``: that its model is there and can be read."""

from __future__ import annotations

from pathlib import Path

from voxflow.errors import InputError
from voxflow.lint import CheckReport
from voxflow.places import ADOPTED, ADOPTED_MODEL, read_workspaces
from voxflow.training import load_model


def check_adopted(workspace: str) -> CheckReport | None:
    """Check the model of a workspace; its options are checked as those of any other.

    Args:
        workspace: a name in params.yaml, or the path of its folder.

    Returns:
        None where it is no workspace of ``kind: adopted``.
    """
    path = Path(workspace)
    for name, block in read_workspaces().items():
        mmar = Path("mmars") / str(name)
        is_meant = workspace.rstrip("/") == name or path.resolve() == mmar.resolve()
        if not is_meant or not isinstance(block, dict) or block.get("kind") != ADOPTED:
            continue
        report = CheckReport(workspace)
        file = mmar / ADOPTED_MODEL
        try:
            load_model(file)
        except InputError as error:
            fix = "adopt it again: voxflow adopt PATH --name NAME"
            report.at(file).error("missing-file" if not file.is_file() else "wrong-value", "", error.message, fix)
        return report
    return None
