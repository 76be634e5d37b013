"""Owns workspaces: an MMAR folder and its block of params.yaml, made from a template."""

from voxflow.workspace.create import copy_template, new_workspace, templates

__all__ = ["copy_template", "new_workspace", "templates"]
