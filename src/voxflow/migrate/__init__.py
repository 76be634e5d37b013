"""Owns migration: a Clara or TLT workspace as a MONAI bundle, with an account of what became of each component."""

from voxflow.migrate.report import Entry, Report, Verdict
from voxflow.migrate.write import Migration, to_bundle

__all__ = ["Entry", "Migration", "Report", "Verdict", "to_bundle"]
