"""The stages of a cross-validation: a workspace's own stages, on a fold's datalist, in folders of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from tasks.common.stage import Stage, own_workspace, run_guarded, stage_parser
from voxflow.errors import ConfigError
from voxflow.findings import FaultyConfigError, FindingCollector
from voxflow.places import PARAMS, load_params, read_params

if TYPE_CHECKING:
    from collections.abc import Callable

WORKSPACES, FOLDS, ENSEMBLES, PREVIOUS = "workspaces", "folds", "ensembles", "previous"
Entry = TypeVar("Entry", bound=BaseModel)
AnyStage = TypeVar("AnyStage", bound=Stage)


class FoldEntry(BaseModel):
    """One entry of ``folds`` in params.yaml.

    Attributes:
        workspace: a key of ``workspaces``.
        fold: 1 to ``split.folds``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: str
    fold: PositiveInt


class EnsembleEntry(BaseModel):
    """One entry of ``ensembles`` in params.yaml, whose key is the workspace.

    Attributes:
        folds: whose models answer together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folds: tuple[PositiveInt, ...]


class PreviousEntry(BaseModel):
    """One entry of ``previous`` in params.yaml, whose key is the workspace of the second of two stages.

    Attributes:
        workspace: of the first stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: str


@dataclass(frozen=True)
class FoldStage(Stage):
    """One stage of one fold.

    Attributes:
        fold: its number, from 1.
    """

    fold: int = 1

    @property
    def title(self) -> str:
        """As DVC calls it, such as ``spleen-1``."""
        return f"{self.workspace}-{self.fold}"

    @property
    def run_name(self) -> str:
        """What its MLflow run is called."""
        return f"fold {self.fold}"

    @property
    def datalist(self) -> Path:
        """The fold's own datalist."""
        return self.datalists / f"fold_{self.fold}.json"

    @property
    def models(self) -> Path:
        """What its training and export make."""
        return self.mmar / "models" / "folds" / str(self.fold)

    @property
    def evaluation(self) -> Path:
        """What its evaluation makes."""
        return self.mmar / "eval" / "folds" / str(self.fold)

    @property
    def metrics(self) -> Path:
        """The stage's numbers."""
        return Path("data/metrics") / self.workspace / "folds" / str(self.fold) / f"{self.name}.json"


@dataclass(frozen=True)
class EnsembleStage(Stage):
    """One stage of the folds' models together.

    Attributes:
        numbers: the folds.
    """

    numbers: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """The workspace, and how many models answer."""
        return f"{self.workspace}, {len(self.numbers)} folds together"

    @property
    def run_name(self) -> str:
        """What its MLflow run is called."""
        return "cross-validation"

    @property
    def evaluation(self) -> Path:
        """What evaluation and inference make."""
        return self.mmar / "eval" / "ensemble"

    @property
    def metrics(self) -> Path:
        """The stage's numbers."""
        return Path("data/metrics") / self.workspace / "ensemble" / f"{self.name}.json"

    def fold(self, number: int, name: str) -> FoldStage:
        """A stage of one of the folds."""
        return FoldStage(self.workspace, name, self.block, number)

    @property
    def engine_folders(self) -> list[Path]:
        """The exported models, one folder a fold."""
        return [self.fold(number, "export").models / "export" for number in self.numbers]


def main(
    name: str,
    run: Callable[[Stage], int],
    *,
    run_fold: Callable[[FoldStage], int] | None = None,
    run_ensemble: Callable[[EnsembleStage], int] | None = None,
) -> int:
    """Run a stage that also works on one fold (``--fold N``), or on all folds' models together (``--ensemble``).

    Args:
        name: the stage, as dvc.yaml names it.
        run: the work on a workspace; returns the exit code, says its own last line.
        run_fold: the work on one fold of it; None where the stage has none.
        run_ensemble: the work on all folds; None where the stage has none.
    """
    parser = stage_parser(name)
    part = parser.add_mutually_exclusive_group()
    if run_fold:
        part.add_argument("--fold", type=int, metavar="N", help="number of a fold of the cross-validation, from 1")
    if run_ensemble:
        part.add_argument("--ensemble", action="store_true", help="use the models of all folds together")
    arguments = parser.parse_args()
    workspace, fold = arguments.workspace, getattr(arguments, "fold", None)
    if run_fold and fold is not None:
        title, work = f"{name}_fold {workspace}-{fold}", lambda: _run_alone(load_fold(workspace, fold, name), run_fold)
    elif run_ensemble and getattr(arguments, "ensemble", False):
        title, work = f"{name}_ensemble {workspace}", lambda: _run_alone(load_ensemble(workspace, name), run_ensemble)
    else:
        title = f"{name} {workspace}"
        work = lambda: _run_alone(Stage(workspace, name, load_params(WORKSPACES, workspace)), run)  # noqa: E731
    return run_guarded(title, work, arguments.debug)


def _run_alone(stage: AnyStage, run: Callable[[AnyStage], int]) -> int:
    with own_workspace(stage, stage.fold if isinstance(stage, FoldStage) else None):
        return run(stage)


def load_fold(workspace: str, number: int, name: str) -> FoldStage:
    """The stage ``name`` on one fold of a workspace.

    Args:
        workspace: a key of ``workspaces`` in params.yaml.
        number: the fold's, from 1.
        name: the stage, as dvc.yaml names it without ``_fold``.

    Raises:
        ConfigError: an entry of ``folds`` is wrong, none is this one, or there is no such workspace.
    """
    numbers = list_folds(workspace)
    if number not in numbers:
        known_folds = ", ".join(map(str, numbers)) or "none"
        raise ConfigError(
            f"no fold {number} of workspace {workspace!r}; known: {known_folds}", path=PARAMS, where=FOLDS
        )
    return FoldStage(workspace, name, load_params(WORKSPACES, workspace), number)


def list_folds(workspace: str) -> list[int]:
    """List the numbers of a workspace's folds that params.yaml has entries of.

    Raises:
        ConfigError: an entry of ``folds`` is wrong.
    """
    entries = [_parse(FoldEntry, FOLDS, key) for key in read_params().get(FOLDS) or {}]
    return sorted(entry.fold for entry in entries if entry.workspace == workspace)


def load_previous(key: str) -> str:
    """The workspace of the first stage that an entry of ``previous`` names.

    Raises:
        ConfigError: there is no such entry, or it is wrong.
    """
    return _parse(PreviousEntry, PREVIOUS, key).workspace


def load_ensemble(key: str, name: str) -> EnsembleStage:
    """The stage ``name`` of an entry of ``ensembles``.

    Raises:
        ConfigError: there is no such entry or workspace, the entry is wrong, or the workspace is a bundle.
    """
    entry = _parse(EnsembleEntry, ENSEMBLES, key)
    block = load_params(WORKSPACES, key)
    if block.get("kind") == "bundle":
        message = "a bundle's models run by its own configuration, which knows of no ensemble; its folds can be trained"
        raise ConfigError(message, path=PARAMS, where=f"{ENSEMBLES}.{key}")
    return EnsembleStage(key, name, block, entry.folds)


def _parse(model: type[Entry], section: str, key: str) -> Entry:
    try:
        return model.model_validate(load_params(section, key))
    except ValidationError as error:
        findings = FindingCollector(PARAMS)
        findings.add_validation(error, f"{section}.{key}", model=model)
        text = "; ".join(f"{fault.where}: {fault.message}" for fault in findings.errors)
        raise FaultyConfigError(text, path=PARAMS, faults=findings.errors) from error
