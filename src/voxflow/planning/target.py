"""The files of a workspace, an MMAR's folder or one of params.yaml, and the values that win over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError
from voxflow.findings import suggest
from voxflow.places import PARAMS, read_workspaces
from voxflow.planning.proposal import plan_evaluation, plan_training

if TYPE_CHECKING:
    from collections.abc import Mapping


# Keys that stand in configurations of validation and inference: Clara 3's and TLT 2's, then Clara 4's.
EVALUATION_SIGNS = ("val_metrics", "writers", "label_transforms", "model_loader", "evaluator", "dataset", "metrics")


@dataclass(frozen=True)
class Target:
    """One workspace.

    Attributes:
        name: as the user named it.
        mmar: its folder.
        config: the training configuration; None: there is none to check.
        evaluation: the configuration of validation and inference; None: there is none to check.
        environment: the environment file; None: none.
        overrides: values that win over both.
        planned: those of them that follow from the data themselves.
        labels: where the stages note the names of the classes.
        allow_repeated_cases: a case in two parts of a datalist that a person wrote is a warning, where neither
            configuration, environment nor overrides say so.
        is_from_cwd: relative paths are from the present folder, not below the MMAR.
        make_command: the command that makes data which is not there yet; empty: data must be there.
    """

    name: str
    mmar: Path
    config: Path | None
    evaluation: Path | None
    environment: Path | None
    overrides: dict[str, Any] = field(default_factory=dict)
    planned: frozenset[str] = frozenset()
    labels: Path | None = None
    allow_repeated_cases: bool = False
    is_from_cwd: bool = False
    make_command: str = ""

    def resolve(self, path: str) -> Path:
        """Resolve a path of the configuration: absolute, below the MMAR, or from the present folder."""
        below = self.mmar / path
        try:
            is_below_cwd = Path(path).exists() or self.is_from_cwd
            return Path(path) if is_below_cwd and not below.exists() else below
        except (OSError, ValueError):
            return below


def find_target(
    workspace: str,
    *,
    config: str | None = None,
    environment: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
) -> Target:
    """Find the files of a workspace.

    Args:
        workspace: the path of an MMAR's folder, or the name of a workspace of params.yaml.
        config: one configuration to check instead of both, relative to the MMAR or to the present folder.
        environment: the environment file, likewise.
        overrides: as ``--set`` gives them.
        train: options that win over the block's key ``train``.

    Raises:
        ConfigError: there is no such workspace, or it has no configuration.
    """
    name = find_workspace_name(workspace)
    block = _read_block(name) if name else None
    mmar = Path("mmars") / name if name and block is not None else Path(workspace)
    if not mmar.is_dir():
        workspaces = _list_names()
        hint = suggest(workspace, workspaces) if workspaces else ""
        raise ConfigError(f"no folder and no workspace of {PARAMS} is called {workspace!r}{hint}")
    options = {**((block or {}).get("train") or {}), **(train or {})}
    configs = _find_configs(mmar, config or options.get("config"), one_only=config is not None)
    environment_path = environment or options.get("environment") or "config/environment.json"
    place = _find_file(mmar, environment_path)
    if environment and not place.is_file():
        raise ConfigError("file not found; -e names the environment file", path=place)
    places = _stage_places(name, block) if name and block is not None else {}
    wins = options.get("set") if isinstance(options.get("set"), dict) else {}
    planned_values = _plan_values(name, options, configs) if places else {}
    return Target(
        name=workspace,
        mmar=mmar,
        config=configs[0],
        evaluation=configs[1],
        environment=place if place.is_file() else None,
        overrides={**places, **planned_values, **(wins or {}), **(overrides or {})},
        planned=frozenset(planned_values),
        labels=Path("data/resampled") / name / "labels.json" if places else None,
        allow_repeated_cases=options.get("allow_repeated_cases") is True,
        is_from_cwd=bool(places),
        make_command=f"dvc repro split@{name}" if places else "",
    )


def find_workspace_name(workspace: str) -> str:
    """Find the name in params.yaml that a user's word means.

    Args:
        workspace: a name, or the path of an MMAR.

    Returns:
        Empty where it is a folder elsewhere.
    """
    path = Path(workspace)
    name = path.name
    if workspace not in {name, f"{name}/"} and path.resolve() != (Path("mmars") / name).resolve():
        return ""
    return name if name in _list_names() else ""


def _list_names() -> list[str]:
    return [str(name) for name in read_workspaces()]


def _read_block(name: str) -> dict[str, Any]:
    block = read_workspaces()[name]
    return block if isinstance(block, dict) else {}


def _stage_places(name: str, block: Mapping[str, Any]) -> dict[str, Any]:
    """What the stage train puts in the place of the environment's own."""
    places = {"DATA_ROOT": f"data/resampled/{name}", "DATASET_JSON": f"data/datalists/{name}/dataset_0.json"}
    return places | ({"PROCESSING_TASK": block["task"]} if isinstance(block.get("task"), str) else {})


def _plan_values(name: str, train: Mapping[str, Any], configs: tuple[Path | None, Path | None]) -> dict[str, Any]:
    """What ``plan: auto`` puts over both configurations, once the images are there."""
    if configs[0] is None:
        return {}
    training_values, proposal = plan_training(train, Path("data/resampled") / name, configs[0])
    evaluation_values = plan_evaluation(proposal, configs[1]) if proposal and configs[1] else {}
    return training_values | evaluation_values


def _find_configs(mmar: Path, config: str | None, *, one_only: bool) -> tuple[Path | None, Path | None]:
    config_path = _find_file(mmar, config or "config/config_train.json")
    evaluation = mmar / "config/config_validation.json"
    if one_only:
        if not config_path.is_file():
            raise ConfigError("file not found; -c names the configuration", path=config_path)
        return (None, config_path) if _is_evaluation(config_path) else (config_path, None)
    train = config_path if config_path.is_file() else None
    if train is None and not evaluation.is_file():
        raise ConfigError("no such file, nor config_validation.json: an MMAR has them in config/", path=config_path)
    return train, evaluation if evaluation.is_file() else None


def _is_evaluation(path: Path) -> bool:
    """By its keys as text: the file may hold faults."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return '"train"' not in text and any(f'"{key}":' in text for key in EVALUATION_SIGNS)


def _find_file(mmar: Path, path: str) -> Path:
    return mmar / path if (mmar / path).is_file() or not Path(path).is_file() else Path(path)
