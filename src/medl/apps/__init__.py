"""The programs that old MMAR scripts call as ``medl.apps``; they are written in :mod:`voxflow.cli.apps`."""

from voxflow.cli.refused_apps import install

install(__name__)
