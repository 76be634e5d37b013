"""Owns the JSON that names cases: reading it strictly, and splitting a case table into one."""

from voxflow.datalist.build import build_datalist
from voxflow.datalist.model import Case, Datalist
from voxflow.datalist.split import SplitOptions, lacking_findings, split_cases

__all__ = ["Case", "Datalist", "SplitOptions", "build_datalist", "lacking_findings", "split_cases"]
