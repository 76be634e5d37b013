"""Owns where a workspace's parts lie in a repository, for commands that stand outside of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Options = TypeVar("Options", bound=BaseModel)

PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Places:
    """One workspace of the repository that the program was started in.

    Attributes:
        workspace: a key below ``workspaces`` of params.yaml.
        block: what stands there.
    """

    workspace: str
    block: Mapping[str, Any]

    @classmethod
    def of(cls, workspace: str) -> Places:
        """Find a workspace.

        Raises:
            ConfigError: there is no params.yaml here, or it does not know the workspace.
        """
        import yaml

        if not PARAMS.is_file():
            raise ConfigError("file not found; run from the root of the repository", path=PARAMS)
        try:
            blocks = (yaml.safe_load(PARAMS.read_text(encoding="utf-8")) or {}).get("workspaces") or {}
        except yaml.YAMLError as error:
            raise ConfigError(f"not valid YAML: {error}", path=PARAMS) from error
        if workspace not in blocks:
            known = ", ".join(sorted(blocks)) or "none"
            raise ConfigError(f"no workspace {workspace!r}; known: {known}", path=PARAMS, where="workspaces")
        return cls(workspace, dict(blocks[workspace]))

    def options(self, key: str, model: type[Options]) -> Options:
        """Parse one key of the block; every fault is reported at once.

        Raises:
            ConfigError: it does not fit.
        """
        try:
            return model.model_validate(self.block.get(key) or {})
        except ValidationError as error:
            place = f"workspaces.{self.workspace}.{key}"
            findings = [
                f"{PARAMS}: {'.'.join([place, *map(str, fault['loc'])])}: {fault['msg']}, got {fault['input']!r}"
                for fault in error.errors()
            ]
            raise ConfigError(f"{len(findings)} wrong parameter(s)", findings=findings) from error

    @property
    def task(self) -> str:
        """What the model does: "segmentation" or "classification"."""
        return str(self.block["task"])

    @property
    def source(self) -> Path:
        """The folder that the images come from."""
        return Path(self.block["source"])

    @property
    def mmar(self) -> Path:
        """The MMAR."""
        return Path("mmars") / self.workspace

    @property
    def models(self) -> Path:
        """train/, export/, parity.json."""
        return self.mmar / "models"

    @property
    def evaluation(self) -> Path:
        """test/, infer/, the report."""
        return self.mmar / "eval"

    @property
    def volumes(self) -> Path:
        """What convert makes."""
        return Path("data/volumes") / self.workspace

    @property
    def quality(self) -> Path:
        """What validate makes."""
        return Path("data/quality") / self.workspace

    @property
    def datalists(self) -> Path:
        """What split makes."""
        return Path("data/datalists") / self.workspace

    @property
    def drift(self) -> Path:
        """What ``voxflow drift`` makes; no stage of the graph owns it."""
        return Path("data/drift") / self.workspace
