"""Owns nothing: the programs are in :mod:`voxflow.cli.apps`."""
