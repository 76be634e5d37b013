"""When, where and how often stages run. What they do and in which order, dvc.yaml says."""

# Before prefect is imported, since it looks for the opt-out of its usage statistics on import.
from voxflow.offline import silence_telemetry

silence_telemetry()
