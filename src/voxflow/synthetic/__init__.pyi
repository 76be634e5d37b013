from .abdomen import write_abdominal_ct as write_abdominal_ct
from .brain import write_brain_mr as write_brain_mr
from .chest import FINDINGS as FINDINGS
from .chest import write_chest_xray as write_chest_xray
from .files import Person as Person
from .files import new_dataset as new_dataset
