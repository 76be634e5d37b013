"""Owns who is champion: a new model against the present one, case by case, and the decision that is written down."""

from voxflow.promotion.candidate import Candidate, read_candidate
from voxflow.promotion.decide import Decision, Judged, decide
from voxflow.promotion.options import PromoteOptions
from voxflow.promotion.paired import PairedResult, compare_cases
from voxflow.promotion.scores import CaseScores, read_scores
from voxflow.promotion.service import judge, promote_by_hand, roll_back
from voxflow.promotion.testpart import part_hash

__all__ = [
    "Candidate",
    "CaseScores",
    "Decision",
    "Judged",
    "PairedResult",
    "PromoteOptions",
    "compare_cases",
    "decide",
    "judge",
    "part_hash",
    "promote_by_hand",
    "read_candidate",
    "read_scores",
    "roll_back",
]
