"""Owns data checks: what is measured of every case, what is expected of it, and how grave a miss is."""

from voxflow.quality.checks import Check, Outcome, require_separate_patients, run_checks
from voxflow.quality.measure import measure_cases
from voxflow.quality.report import require_critical, write_quality_report
from voxflow.quality.suites import ValidateOptions, radiograph_checks, volume_checks

__all__ = [
    "Check",
    "Outcome",
    "ValidateOptions",
    "measure_cases",
    "radiograph_checks",
    "require_critical",
    "require_separate_patients",
    "run_checks",
    "volume_checks",
    "write_quality_report",
]
