"""An MMAR folder as named on a command line: its files, its variables, and where relative paths begin."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from voxflow.config import read_json, read_switches, refuse_foreign
from voxflow.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

TRAIN_CONFIG = "config/config_train.json"
VALIDATION_CONFIG = "config/config_validation.json"
ENVIRONMENT = "config/environment.json"

# Variables that Clara's own commands set where nobody else does.
DEFAULTS = {"MMAR_CKPT_DIR": "models", "MMAR_EVAL_OUTPUT_PATH": "eval", "DATA_LIST_KEY": "validation"}
OUTPUTS = ("MMAR_CKPT_DIR", "MMAR_EVAL_OUTPUT_PATH")
INPUTS = ("DATA_ROOT", "DATASET_JSON", "MMAR_CKPT", "PRETRAIN_WEIGHTS_FILE")


@dataclass(frozen=True)
class Mmar:
    """One MMAR, a configuration of it, and what the command line says.

    Attributes:
        root: the folder, absolute.
        config: the configuration that is run.
        environment: the environment file; None when there is none.
        settings: the values of ``--set``, as they were typed.
        variables: every variable that is known outside of sections: configuration < environment < ``--set``, paths
            absolute.
    """

    root: Path
    config: Path
    environment: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        root: Path,
        config: str | Path = TRAIN_CONFIG,
        environment: str | Path | None = None,
        values: Mapping[str, Any] | None = None,
        *,
        has_environment: bool = True,
        needs_config: bool = True,
    ) -> Self:
        """Find the files and settle the variables.

        Args:
            root: the MMAR folder.
            config: the configuration, relative to the MMAR or else to the present folder.
            environment: likewise; None: config/environment.json where there is one.
            values: of ``--set``; they win over the environment, which wins over the configuration.
            has_environment: whether one is looked for where none is named; TLT 2 knew none.
            needs_config: whether the configuration must be there; an export reads no more of it than its variables.

        Raises:
            ConfigError: no such folder or file, or a file that is no JSON object.
        """
        # Scripts say commands/.., which no record and no workspace should be called.
        root = root.resolve() if ".." in root.parts else root.absolute()
        if not root.is_dir():
            raise ConfigError("no such MMAR folder", path=root)
        config_file = _find_file(config, root) if needs_config else _look_for_file(config, root) or root / config
        if environment is None:
            is_there = has_environment and (root / ENVIRONMENT).is_file()
            environment_file = root / ENVIRONMENT if is_there else None
        else:
            environment_file = _find_file(environment, root)
        settings = dict(values or {})
        content = read_json(config_file) if needs_config or config_file.is_file() else {}
        refuse_foreign(content, config_file)
        stated = {key: value for key, value in content.items() if not isinstance(value, dict | list)}
        stated |= read_json(environment_file) if environment_file else {}
        variables = _resolve_paths(read_switches(DEFAULTS | stated | settings), root)
        return cls(root, config_file, environment_file, settings, variables)

    @property
    def name(self) -> str:
        """What the MMAR is called: its folder's name."""
        return self.root.name or "mmar"

    @property
    def overrides(self) -> dict[str, Any]:
        """What wins over configuration and environment: ``--set``, and every path made absolute."""
        # Which cases is for the configuration to say, before a default or the environment.
        paths = {key: value for key, value in self.variables.items() if key in (*OUTPUTS, *INPUTS)}
        return {"MMAR_ROOT": self.root.as_posix(), **self.settings, **paths}

    @property
    def models(self) -> Path:
        """Where training writes and export reads."""
        return Path(self.variables["MMAR_CKPT_DIR"])

    @property
    def eval(self) -> Path:
        """Where evaluation and inference write."""
        return Path(self.variables["MMAR_EVAL_OUTPUT_PATH"])

    def find_checkpoint(self) -> Path:
        """The trained model: what ``--set MMAR_CKPT`` names, else model.pt of MMAR_CKPT_DIR, else the files' MMAR_CKPT.

        MMAR_CKPT of a file comes last: it may name the weights that the training began from.
        """
        from voxflow.mmar.artefacts import find_model

        if self.settings.get("MMAR_CKPT"):
            return find_model(Path(self.variables["MMAR_CKPT"]))
        stated = self.variables.get("MMAR_CKPT")
        try:
            return find_model(self.models / "model.ckpt")
        except DataError:
            if not stated:
                raise
            return find_model(Path(stated))

    def input_path(self, value: str | Path) -> Path:
        """Find an input: below the MMAR, else below the present folder, else in the repository that holds the MMAR.

        Args:
            value: a path as a configuration or a variable states it; an absolute one is taken as it is.
        """
        return find_input(value, self.root)

    @property
    def repository(self) -> Path | None:
        """The Voxflow repository that the MMAR lies in; None when it stands by itself."""
        return find_repository(self.root)


def find_repository(folder: Path) -> Path | None:
    """The nearest folder at or above ``folder`` that holds dvc.yaml and params.yaml."""
    places = (folder, *folder.parents)
    return next(
        (place for place in places if all((place / name).is_file() for name in ("dvc.yaml", "params.yaml"))), None
    )


def find_input(value: str | Path, root: Path) -> Path:
    """Find a relative path below the MMAR, the present folder or the repository; the first that holds it.

    Returns:
        The path that is there; the one below the MMAR when none is.
    """
    path = Path(value)
    # A configuration's paths are meant from the MMAR, those that are typed from where one stands.
    bases = [root, Path.cwd(), *filter(None, [find_repository(root)])]
    return next((base / path for base in bases if (base / path).exists()), root / path)


def _resolve_paths(variables: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Paths made absolute; an empty one stays empty, since that is how a file is said not to be used."""
    settled = dict(variables)
    for key in (*OUTPUTS, *INPUTS):
        value = settled.get(key)
        if isinstance(value, str) and value:
            settled[key] = (root / value if key in OUTPUTS else find_input(value, root)).as_posix()
    return settled


def _find_file(name: str | Path, root: Path) -> Path:
    file = _look_for_file(name, root)
    if file is None:
        raise ConfigError(f"file not found, neither there nor at {Path.cwd() / name}", path=root / name)
    return file


def _look_for_file(name: str | Path, root: Path) -> Path | None:
    return next((place for place in (root / name, Path.cwd() / name) if place.is_file()), None)
