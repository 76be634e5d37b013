from .files import VARIANTS as VARIANTS
from .files import Variant as Variant
from .files import write_model as write_model
from .models import ZooModel as ZooModel
from .models import find_model as find_model
from .models import read_zoo as read_zoo
