"""Owns the page that sets two models side by side, case by case."""

from voxflow.comparing.page import write_comparison
from voxflow.comparing.sides import Side, open_side

__all__ = ["Side", "open_side", "write_comparison"]
