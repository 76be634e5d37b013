"""Loading a configuration: which dialect the file is written in, and which reader that dialect has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from voxflow.config import clara3, clara4, clara4_evaluation, tlt2, tlt2_evaluation
from voxflow.config.foreign import refuse_foreign
from voxflow.config.source import ConfigSource
from voxflow.config.text import log_warning, read_json
from voxflow.findings import DEFAULT_CODE, FaultyConfigError, Finding, FindingCollector, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from voxflow.components import Component, Kind
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
    read_workflow: Callable[[ConfigSource], Workflow]
    read_evaluation: Callable[[ConfigSource], Evaluation]


# Asked in this order; the last takes what no other wants.
DIALECTS: dict[str, Dialect] = {
    "clara4": Dialect(clara4.is_clara4, clara4.read_workflow, clara4_evaluation.read_evaluation),
    "tlt2": Dialect(tlt2.is_tlt2, tlt2.read_workflow, tlt2_evaluation.read_evaluation),
    "clara3": Dialect(clara3.is_clara3, clara3.read_workflow, clara3.read_evaluation),
}


def detect_dialect(config: Mapping[str, Any]) -> str:
    """Name the dialect that a configuration's content is written in.

    Example:
        >>> detect_dialect({"train": {"loss": {"name": "Dice", "args": {}}}})
        'clara3'
        >>> detect_dialect({"train": {"trainer": {"name": "SupervisedTrainer"}}})
        'clara4'
        >>> detect_dialect({"net_config": {"name": "SegmResnet"}})
        'tlt2'
    """
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
    inspection = inspect_configuration(
        config_path, environment=environment, overrides=overrides, workspace=workspace, dialect=dialect
    )
    return cast("Workflow", inspection.require())


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
    inspection = inspect_configuration(
        config_path,
        is_evaluation=True,
        environment=environment,
        overrides=overrides,
        workspace=workspace,
        dialect=dialect,
    )
    return cast("Evaluation", inspection.require())


@dataclass(frozen=True)
class Inspection:
    """A configuration as far as it could be read, and everything that is wrong with it.

    Attributes:
        findings: errors and warnings, in the order in which they were met.
        components: every component that was read, faulty or not, in the order of the file.
        loaded: the whole of it, where it has no fault.
        error: what loading it raises.
        is_read: it is JSON in a known dialect, and some of its parts could be read.
    """

    findings: tuple[Finding, ...]
    components: tuple[tuple[Kind, Component], ...] = ()
    loaded: Workflow | Evaluation | None = None
    error: FaultyConfigError | None = None
    is_read: bool = True

    def require(self) -> Workflow | Evaluation | None:
        """Log every warning, and return the configuration.

        Raises:
            FaultyConfigError: it has faults.
        """
        for finding in self.findings:
            if finding.severity == "warning":
                log_warning(finding)
        if self.error is not None:
            raise self.error
        return self.loaded


def inspect_configuration(
    config_path: Path,
    *,
    is_evaluation: bool = False,
    environment: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    workspace: Path | None = None,
    dialect: str | None = None,
) -> Inspection:
    """Read a configuration, and return what is wrong with it instead of raising or logging it.

    Args:
        config_path: as for :func:`load_workflow` or :func:`load_evaluation`.
        is_evaluation: it is one of validation and inference.
        environment: as for :func:`load_workflow`.
        overrides: as for :func:`load_workflow`.
        workspace: as for :func:`load_workflow`.
        dialect: as for :func:`load_workflow`.
    """
    findings = FindingCollector(config_path)
    try:
        source = _open_source(findings, environment, overrides or {}, workspace or find_workspace(config_path))
        refuse_foreign(source.config, config_path)
        language = _select_dialect(dialect, source)
    except FaultyConfigError as error:
        return Inspection((*findings.findings, *error.faults), error=error, is_read=False)
    try:
        loaded = (language.read_evaluation if is_evaluation else language.read_workflow)(source)
    except FaultyConfigError as error:
        noted = tuple(findings.findings) if source.is_settled else (*findings.findings, *error.faults)
        return Inspection(noted, tuple(source.components), error=error, is_read=source.is_settled)
    return Inspection(tuple(findings.findings), tuple(source.components), loaded)


def find_workspace(config_path: Path) -> Path:
    """Find the MMAR's folder that a configuration belongs to: the one above ``config/``, or else the file's own.

    Example:
        >>> from pathlib import Path
        >>> find_workspace(Path("/work/mmars/spleen/config/config_train.json")).name
        'spleen'
        >>> find_workspace(Path("/work/tlt/train.json")).name
        'tlt'
    """
    folder = config_path.absolute().parent
    return folder.parent if folder.name == "config" else folder


def _open_source(
    findings: FindingCollector, environment: Path | None, overrides: Mapping[str, Any], workspace: Path
) -> ConfigSource:
    """Read the configuration that the findings are of, and its environment file."""
    of_environment = FindingCollector(environment, findings.findings) if environment else None
    return ConfigSource(
        path=findings.file,
        config=read_json(findings.file, findings),
        workspace=workspace,
        environment=read_json(environment, of_environment) if environment else {},
        environment_path=environment,
        overrides=overrides,
        findings=findings,
    )


def _select_dialect(name: str | None, source: ConfigSource) -> Dialect:
    dialect = name or detect_dialect(source.config)
    if dialect not in DIALECTS:
        near = suggest(dialect, DIALECTS)
        message = f"unknown dialect {dialect!r}"
        raise FaultyConfigError.of(Finding(DEFAULT_CODE, "error", source.path, "", message, near.fix, near.question))
    return DIALECTS[dialect]
