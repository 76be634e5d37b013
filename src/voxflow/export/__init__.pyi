from .model import export_engine as export_engine
from .model import export_model as export_model
from .options import ExportOptions as ExportOptions
from .parity import Parity as Parity
from .parity import ParityReport as ParityReport
from .parity import Reference as Reference
from .parity import measure_parity as measure_parity
