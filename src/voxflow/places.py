"""Where the parts of a workspace lie in a repository, and what params.yaml says of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from voxflow import bounds
from voxflow.errors import ConfigError, DataError
from voxflow.files import read_text
from voxflow.findings import FindingCollector, nearest_name
from voxflow.naming import fold_name, make_case_name
from voxflow.texts import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Options = TypeVar("Options", bound=BaseModel)

PARAMS = bounds.PARAMS
# A workspace whose model was trained elsewhere, and where its model file lies below its folder.
ADOPTED, ADOPTED_MODEL = "adopted", Path("config/adopted.pt")
# Of each workspace, where the pages of its last flow run are: a list of links in WORKSPACE.json.
LAST_FLOW_RUNS = Path(".voxflow/flow_runs")
# A package that torch asks for and that is absent without a GPU: Python takes a folder of this name for it.
TRITON = "triton"
# DVC's: set for the stages of `dvc exp run`; the root is the real repository's, wherever the experiment runs.
EXPERIMENT_VARIABLE, ROOT_VARIABLE = "DVC_EXP_NAME", "DVC_ROOT"


def find_home() -> Path:
    """Where what outlives a run belongs: the record of runs, the pseudonym key.

    It is the working directory, but for an experiment that runs in a copy (``dvc exp run --queue`` or ``--temp``): DVC
    removes the copy when the experiment ends, so that it is the repository then.
    """
    root = os.environ.get(ROOT_VARIABLE) if os.environ.get(EXPERIMENT_VARIABLE) else None
    if not root or not Path(root).is_dir() or Path(root).samefile(Path.cwd()):
        return Path()
    return Path(root).absolute()


class WorkspaceLayout:
    """What follows from a workspace's name and its block of params.yaml: options and folders, from the root.

    Attributes:
        workspace: a key below ``workspaces`` of params.yaml.
        block: what stands there.
    """

    workspace: str
    block: Mapping[str, Any]

    def options_of(self, key: str, model: type[Options]) -> Options:
        """Parse one key of the block into ``model``; every fault is reported at once.

        Raises:
            ConfigError: it does not fit.
        """
        findings = FindingCollector(PARAMS)
        options = self.check_options(key, model, findings)
        if options is None:
            findings.raise_errors(f"{len(findings.findings)} wrong parameter(s)")
            raise AssertionError
        return options

    def check_options(self, key: str, model: type[Options], findings: FindingCollector) -> Options | None:
        """Parse one key of the block into ``model``, and note every fault.

        Args:
            key: of the block, such as "convert".
            model: the options of the stage that reads it.
            findings: of params.yaml.

        Returns:
            None where there is a fault.
        """
        try:
            return model.model_validate(self.block.get(key) or {})
        except ValidationError as error:
            findings.add_validation(error, f"workspaces.{self.workspace}.{key}", model=model)
            return None

    @property
    def registered_name(self) -> str:
        """The registered model that the workspace's models are versions of: its own, or one that they challenge."""
        return str((self.block.get("promote") or {}).get("model") or self.workspace)

    @property
    def task(self) -> str:
        """What the workspace's model does: "segmentation" or "classification"."""
        return str(self.block["task"])

    @property
    def source(self) -> Path:
        """The folder that the images come from."""
        return Path(self.block["source"])

    @property
    def raw(self) -> Path:
        """What sample makes: DICOM as a hospital would send it."""
        return Path("data/raw") / self.workspace

    @property
    def mmar(self) -> Path:
        """The workspace's MMAR folder."""
        return Path("mmars") / self.workspace

    @property
    def volumes(self) -> Path:
        """What convert makes: images/, labels/, cases.csv, conversion.csv."""
        return Path("data/volumes") / self.workspace

    @property
    def quality(self) -> Path:
        """What validate makes: report.json, docs/."""
        return Path("data/quality") / self.workspace

    @property
    def resampled(self) -> Path:
        """What resample makes: images/, labels/, cases.csv; the root that datalists refer to."""
        return Path("data/resampled") / self.workspace

    @property
    def datalists(self) -> Path:
        """What split makes: dataset_0.json and one file a fold."""
        return Path("data/datalists") / self.workspace

    @property
    def previous(self) -> Path:
        """What previous makes: the masks of the first of two stages, on the grids of the resampled images."""
        return Path("data/previous") / self.workspace

    @property
    def models(self) -> Path:
        """What train and export make: train/, export/, parity.json."""
        return self.mmar / "models"

    @property
    def evaluation(self) -> Path:
        """What evaluate, infer and report make: test/, infer/, the report."""
        return self.mmar / "eval"

    @property
    def corrections(self) -> Path:
        """What people corrected of our masks; no stage of the graph owns it."""
        return Path("data/corrections") / self.workspace

    @property
    def drift(self) -> Path:
        """What ``voxflow drift`` makes; no stage of the graph owns it."""
        return Path("data/drift") / self.workspace


@dataclass(frozen=True)
class Places(WorkspaceLayout):
    """One workspace of the repository that the program was started in, for commands outside of the graph."""

    workspace: str
    block: Mapping[str, Any]

    @classmethod
    def of(cls, workspace: str) -> Places:
        """Find a workspace.

        Raises:
            ConfigError: there is no params.yaml here, or it does not know the workspace.
        """
        return cls(workspace, load_params("workspaces", workspace))


def load_params(key: str, workspace: str) -> dict[str, Any]:
    """Read ``key.workspace`` of params.yaml.

    Raises:
        ConfigError: there is no params.yaml here, or it does not know the workspace.
    """
    params = read_params()
    blocks = params.get(key) or {}
    if workspace not in blocks:
        names = ", ".join(sorted(map(str, blocks))) or "none"
        near = nearest_name(workspace.removeprefix("mmars/").strip("/"), [str(name) for name in blocks])
        hint = f"did you mean {near!r}? " if near else ""
        raise ConfigError(f"no workspace {workspace!r}; {hint}known: {names}", path=PARAMS, where=key)
    check_workspace_name(workspace, blocks)
    return dict(blocks[workspace])


def check_workspace_name(workspace: str, others: Iterable[str], path: Path = PARAMS) -> None:
    """Refuse a workspace that has no folders of its own.

    Args:
        workspace: its name, which names its folders.
        others: names of workspaces; itself may be among them.
        path: the file that holds them.

    Raises:
        ConfigError: its name is none of a folder, or another's folder has it on macOS and Windows.
    """
    if make_case_name(workspace) != workspace:
        raise ConfigError(f"{workspace!r} can't name a folder; call it {make_case_name(workspace)!r}", path=path)
    twin = next((str(n) for n in others if str(n) != workspace and fold_name(str(n)) == fold_name(workspace)), None)
    if twin is not None:
        message = f"{workspace!r} and {twin!r} would share one folder where upper and lower case are the same"
        raise ConfigError(message, path=path, where="workspaces")


def check_folder_name(folder: Path) -> None:
    """Refuse a name for a new folder with which torch would no longer start in the folder that holds it.

    Raises:
        ConfigError: it is called triton.
    """
    if folder.resolve().name == TRITON:
        message = "torch takes a folder of this name for a package; choose another one, such as model_repository"
        raise ConfigError(f"{folder}: {message}")


def _check_imports(root: Path) -> None:
    """Refuse to begin where such a folder is there, and no real package is found before it."""
    folder = root / TRITON
    if folder.is_dir() and (spec := find_spec(TRITON)) is not None and spec.origin is None:
        message = "torch takes a folder of this name for a package, and can't start; rename it"
        raise ConfigError(message, path=folder)


def read_params(path: Path = PARAMS, *, may_lack: bool = False) -> dict[str, Any]:
    """Read the whole of params.yaml; nothing else reads it, but for the limits (:mod:`voxflow.bounds`).

    Args:
        path: the file.
        may_lack: no file is as good as an empty one, as for an MMAR outside of a repository.

    Raises:
        ConfigError: the file is missing or can't be read, it is no YAML, or its limits are wrong; or a folder beside it
            would be taken for a package.
    """
    _check_imports(path.parent)
    if not path.is_file():
        if may_lack:
            return {}
        raise ConfigError("file not found; run stages from the root of the repository", path=path)
    try:
        content = parse_yaml(read_text(path))
    except DataError as error:
        raise ConfigError(error.message, path=path) from error
    except OSError as error:
        raise ConfigError(f"can't be read: {error}", path=path) from error
    if not isinstance(content, dict):
        return {}
    # Before any work begins: the images would be refused one by one.
    bounds.parse_limits(content, path)
    return content


def read_workspaces(path: Path = PARAMS) -> dict[str, Any]:
    """Read each workspace of params.yaml with its block; none where there is no such file.

    Raises:
        ConfigError: the file can't be read, or it is no YAML.
    """
    blocks = read_params(path, may_lack=True).get("workspaces")
    return blocks if isinstance(blocks, dict) else {}
