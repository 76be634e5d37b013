from .model import export_model as export_model
from .model import remove_engine as remove_engine
from .options import ExportFormat as ExportFormat
from .options import ExportOptions as ExportOptions
from .parity import Parity as Parity
from .parity import ParityReport as ParityReport
