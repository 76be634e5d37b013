from .convert import convert_folder as convert_folder
from .options import ConvertOptions as ConvertOptions
from .sources import Origin as Origin
from .sources import SourceFiles as SourceFiles
from .sources import find_sources as find_sources
from .writing import write_segmentation as write_segmentation
