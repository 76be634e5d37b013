from .page import write_comparison as write_comparison
from .sides import Side as Side
from .sides import open_sides as open_sides
