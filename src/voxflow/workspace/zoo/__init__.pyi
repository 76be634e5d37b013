from .files import VARIANTS as VARIANTS
from .files import Variant as Variant
from .files import write_model as write_model
from .models import ZooModel as ZooModel
from .models import find as find
from .models import zoo as zoo
