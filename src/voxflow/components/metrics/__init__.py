"""Metrics of validation, and the auxiliary operations that prepare their inputs."""
