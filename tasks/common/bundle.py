"""What the stages share for a workspace of ``kind: bundle``, which runs a MONAI bundle's own configurations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from voxflow.bundle import BundleOptions, list_items, require_trust

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.common.stage import Stage
    from voxflow.bundle import BundleItem
    from voxflow.datalist import Datalist

KIND = "bundle"


def is_bundle(stage: Stage) -> bool:
    """Whether a workspace is a MONAI bundle; its files lie in mmars/WORKSPACE/config."""
    return stage.block.get("kind") == KIND


def read_bundle_options(stage: Stage, name: str | None = None) -> BundleOptions:
    """Read the stage's options, once the bundle may run at all.

    Args:
        stage: of a workspace of ``kind: bundle``.
        name: another stage whose options count; None: the stage's own.

    Raises:
        ConfigError: params.yaml does not say ``trust: true``, or options are wrong.
        MissingDependencyError: MONAI's engines are not installed.
    """
    require_trust(trust=stage.block.get("trust") is True, json_path=f"workspaces.{stage.workspace}.trust")
    return replace(stage, name=name or stage.name).options(BundleOptions)


def bundle_folder(stage: Stage) -> Path:
    """Where the bundle lies."""
    return stage.mmar / "config"


def list_labelled_items(datalist: Datalist, key: str) -> list[BundleItem]:
    """A part's labelled cases as a bundle's dataset takes them; their files are there."""
    labelled = [case for case in datalist.parts.get(key, ()) if case.label is not None]
    datalist.check_files([key] if labelled else [])
    return list_items(labelled)
