"""The module of Clara's administration, which scripts of AutoML and federated learning call; it is not carried."""

from voxflow.cli.refused_apps import install

install(__name__)
