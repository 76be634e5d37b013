from .check import check_workspace as check_workspace
from .report import CheckReport as CheckReport
from .text import render_report as render_report
