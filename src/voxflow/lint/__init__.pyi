from .check import check_workspace as check_workspace
from .fields import require_fields as require_fields
from .params import check_params as check_params
from .report import CheckReport as CheckReport
from .text import render_report as render_report
