"""Owns data checks: what is measured of every case, what is expected of it, and how grave a miss is."""

from voxflow.quality.checks import Check, Outcome, require_separate_patients, run_checks
from voxflow.quality.history import keep_history
from voxflow.quality.measure import measure_cases
from voxflow.quality.report import require_critical, write_quality_report
from voxflow.quality.rules import Rule, profile, run_suites
from voxflow.quality.suites import ValidateOptions, radiograph_checks, volume_checks

__all__ = [
    "Check",
    "Outcome",
    "Rule",
    "ValidateOptions",
    "keep_history",
    "measure_cases",
    "profile",
    "radiograph_checks",
    "require_critical",
    "require_separate_patients",
    "run_checks",
    "run_suites",
    "volume_checks",
    "write_quality_report",
]
