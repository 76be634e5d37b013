"""Owns workspaces: an MMAR folder and its block of params.yaml, made from a template."""

from voxflow.workspace.create import new_workspace, templates

__all__ = ["new_workspace", "templates"]
