from .build import SPLIT_MARK as SPLIT_MARK
from .build import build_datalist as build_datalist
from .model import Case as Case
from .model import Datalist as Datalist
from .model import FaultyDatalistError as FaultyDatalistError
from .split import SplitOptions as SplitOptions
from .split import list_lacking_findings as list_lacking_findings
from .split import split_cases as split_cases
