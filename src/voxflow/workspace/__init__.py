"""Owns workspaces: an MMAR folder, alone or with its block of params.yaml, made from a template."""

from voxflow.workspace.create import (
    copy_template,
    make_mmar,
    new_workspace,
    template_called,
    templates,
    workspaces,
)

__all__ = ["copy_template", "make_mmar", "new_workspace", "template_called", "templates", "workspaces"]
