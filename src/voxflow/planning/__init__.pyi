from .layout import Layout as Layout
from .layout import lay_out as lay_out
from .machine import Machine as Machine
from .machine import read_machine as read_machine
from .proposal import Proposal as Proposal
from .proposal import planned as planned
from .proposal import planned_evaluation as planned_evaluation
