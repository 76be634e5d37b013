from .check import check_workspace as check_workspace
from .findings import Finding as Finding
from .findings import Report as Report
from .target import Target as Target
from .target import find_target as find_target
