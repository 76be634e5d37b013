from .container import build_image as build_image
from .container import write_container as write_container
from .source import PackagedModel as PackagedModel
from .source import find_packaged_model as find_packaged_model
from .triton import write_triton as write_triton
