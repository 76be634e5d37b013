"""When, where and how often stages run. What they do and in which order, dvc.yaml says."""

# Before prefect is imported, since prefect looks for the opt-out of its usage statistics on import: voxflow, which
# tasks import, sets it.
import tasks.ops.repro  # noqa: F401
