from .candidates import Candidate as Candidate
from .candidates import parse_candidates as parse_candidates
from .choose import Comparison as Comparison
from .choose import plan_comparison as plan_comparison
from .decision import Decision as Decision
from .decision import decide as decide
