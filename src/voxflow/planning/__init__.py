"""Owns planning a training before it runs: the machine, and what follows from it and the data's fingerprint."""

from voxflow.planning.layout import Layout, lay_out
from voxflow.planning.machine import Machine, read_machine
from voxflow.planning.proposal import Proposal, planned, planned_evaluation

__all__ = ["Layout", "Machine", "Proposal", "lay_out", "planned", "planned_evaluation", "read_machine"]
