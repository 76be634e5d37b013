"""Prefect flows: when, where and how often the stages run. Their work and their order stand in dvc.yaml."""

# Before prefect is imported, since prefect looks for the opt-out of its usage statistics on import: voxflow, which
# tasks import, sets it.
import tasks.ops.repro  # noqa: F401
