"""Owns workspaces: an MMAR folder, alone or with its block of params.yaml, made from a template."""

from voxflow.workspace.create import make_mmar, new_workspace, templates, workspaces

__all__ = ["make_mmar", "new_workspace", "templates", "workspaces"]
