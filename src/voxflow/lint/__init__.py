"""Owns the check of a workspace: configurations, environment, datalist and files, all findings at once.

Importing this package imports neither torch nor MONAI, and neither does a check.
"""

from voxflow.lint.check import check_workspace
from voxflow.lint.findings import Finding, Report
from voxflow.lint.target import Target, find_target

__all__ = ["Finding", "Report", "Target", "check_workspace", "find_target"]
