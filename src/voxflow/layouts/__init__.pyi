from .label_descriptions import read_label_descriptions as read_label_descriptions
from .model import TITLES as TITLES
from .model import ChannelSource as ChannelSource
from .model import LabelSource as LabelSource
from .model import Layout as Layout
from .model import LayoutCase as LayoutCase
from .model import LayoutName as LayoutName
from .recognise import recognise_layout as recognise_layout
