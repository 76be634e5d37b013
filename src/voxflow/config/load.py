"""Owns the way into a configuration: which dialect a file is written in, and who reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.config import clara3, clara4, tlt2
from voxflow.config.findings import suggest
from voxflow.config.source import Source
from voxflow.config.text import read_json
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from voxflow.config.workflow import Evaluation, Workflow


@dataclass(frozen=True)
class Dialect:
    """One configuration language.

    Attributes:
        detect: whether a file's content is in it.
        read_workflow: reads a training configuration; raises every fault at once.
        read_evaluation: reads a configuration of validation and inference likewise.
    """

    detect: Callable[[Mapping[str, Any]], bool]
    read_workflow: Callable[[Source], Workflow]
    read_evaluation: Callable[[Source], Evaluation]


# Asked in this order; the last takes what no other wants.
DIALECTS: dict[str, Dialect] = {
    "clara4": Dialect(clara4.detect, clara4.read_workflow, clara4.read_evaluation),
    "tlt2": Dialect(tlt2.detect, tlt2.read_workflow, tlt2.read_evaluation),
    "clara3": Dialect(clara3.detect, clara3.read_workflow, clara3.read_evaluation),
}


def detect_dialect(config: Mapping[str, Any]) -> str:
    """The name of the dialect that a configuration's content is written in."""
    return next(name for name, dialect in DIALECTS.items() if dialect.detect(config))


def load_workflow(
    config_path: Path,
    *,
    environment: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    workspace: Path | None = None,
    dialect: str | None = None,
) -> Workflow:
    """Read a training configuration without touching data, torch or MONAI.

    Args:
        config_path: config_train.json of Clara 3, or TLT 2's configuration of ``tlt-train``.
        environment: environment.json; its values win over the configuration's.
        overrides: values that win over both, as ``--set`` gives them: a global (``epochs``), a variable
            (``DATA_ROOT``), or a place in the configuration (``train.optimizer.name``).
        workspace: the MMAR's folder, whose ``custom/`` may hold own classes; when left out the folder above
            ``config/``, or else the file's own.
        dialect: a key of ``DIALECTS``; told by the content when left out.

    Raises:
        ConfigError: everything that is wrong, at once, in ``findings``.
    """
    source = _open(config_path, environment, overrides, workspace)
    return _dialect(dialect, source).read_workflow(source)


def load_evaluation(
    config_path: Path,
    *,
    environment: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    workspace: Path | None = None,
    dialect: str | None = None,
) -> Evaluation:
    """Read a configuration of validation and inference without touching data, torch or MONAI.

    Args:
        config_path: config_validation.json of Clara 3, or TLT 2's configuration of ``tlt-evaluate``.
        environment: as for :func:`load_workflow`.
        overrides: as for :func:`load_workflow`; ``do_validation`` and ``output_infer_result`` too.
        workspace: as for :func:`load_workflow`.
        dialect: as for :func:`load_workflow`.

    Raises:
        ConfigError: everything that is wrong, at once, in ``findings``.
    """
    source = _open(config_path, environment, overrides, workspace)
    return _dialect(dialect, source).read_evaluation(source)


def workspace_of(config_path: Path) -> Path:
    """The MMAR's folder that a configuration belongs to: the one above ``config/``, or else the file's own."""
    folder = config_path.absolute().parent
    return folder.parent if folder.name == "config" else folder


def _open(
    config_path: Path, environment: Path | None, overrides: Mapping[str, Any] | None, workspace: Path | None
) -> Source:
    return Source(
        path=config_path,
        config=read_json(config_path),
        workspace=workspace or workspace_of(config_path),
        environment=read_json(environment) if environment else {},
        environment_path=environment,
        overrides=overrides or {},
    )


def _dialect(name: str | None, source: Source) -> Dialect:
    chosen = name or detect_dialect(source.config)
    if chosen not in DIALECTS:
        raise ConfigError(f"unknown dialect {chosen!r}{suggest(chosen, DIALECTS)}", path=source.path)
    return DIALECTS[chosen]
