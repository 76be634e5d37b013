"""Owns invented patients, written as real DICOM, so that everything can be tried without any download."""

from voxflow.synthetic.abdomen import write_abdominal_ct
from voxflow.synthetic.chest import FINDINGS, write_chest_xray

__all__ = ["FINDINGS", "write_abdominal_ct", "write_chest_xray"]
