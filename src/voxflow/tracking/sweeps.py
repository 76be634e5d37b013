"""Puts the runs of DVC's experiments on one commit below one parent, as ``dvc exp show`` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PARENT = "mlflow.parentRunId"
EXPERIMENT, BASELINE = "dvc_exp", "dvc_exp_baseline"
SWEEP = "dvc_exp_sweep"  # of the parent: the commit that its children started from


def find_parent_tag(client: Any, run_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    """The tag that puts an experiment below its commit's run, which is made for the first of them.

    Args:
        client: MLflow's.
        run_id: the run of the experiment.
        tags: those that are being recorded, BASELINE among them.

    Returns:
        Nothing for a run that has a parent.
    """
    run, baseline = client.get_run(run_id), tags[BASELINE]
    if PARENT in run.data.tags:
        return {}
    # Two that begin at once through a server may make two: all later ones take the older.
    query, order = f"tags.{SWEEP} = '{baseline}'", ["attributes.start_time ASC"]
    parents = client.search_runs([run.info.experiment_id], query, order_by=order, max_results=1)
    return {PARENT: parents[0].info.run_id if parents else _create_parent(client, run.info.experiment_id, tags)}


def is_sweep(run: Any) -> bool:
    """Whether a run only holds experiments together."""
    return SWEEP in run.data.tags


def _create_parent(client: Any, experiment_id: str, tags: Mapping[str, str]) -> str:
    parent_tags = {SWEEP: tags[BASELINE], "workspace": tags.get("workspace", "")}
    parent = client.create_run(experiment_id, run_name=f"experiments on {tags[BASELINE][:7]}", tags=parent_tags)
    client.set_terminated(parent.info.run_id)
    return str(parent.info.run_id)
