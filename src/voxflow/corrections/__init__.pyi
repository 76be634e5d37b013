from .desk import CorrectionDesk as CorrectionDesk
from .intake import take_corrections as take_corrections
from .options import CorrectionOptions as CorrectionOptions
from .results import OwnResult as OwnResult
from .results import list_results as list_results
from .table import CorrectionTable as CorrectionTable
from .table import list_due as list_due
