from .create import copy_template as copy_template
from .create import list_templates as list_templates
from .create import make_mmar as make_mmar
from .create import new_workspace as new_workspace
from .create import template_called as template_called
from .create import workspaces as workspaces
