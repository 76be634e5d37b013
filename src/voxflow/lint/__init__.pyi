from .check import check_workspace as check_workspace
from .findings import Finding as Finding
from .findings import Report as Report
