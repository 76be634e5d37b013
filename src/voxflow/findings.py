"""A finding: one thing that is wrong with a user's file, made where the fault is known.

Readers of configurations, the check, the options of params.yaml and planning all note findings in a
:class:`FindingCollector`, so that everything that is wrong with a file is reported at once. A finding carries its code,
its place and what to do as values; nobody reads them out of a message.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from pydantic import BaseModel, ValidationError

Severity = Literal["error", "warning", "note"]
MAX_SHOWN = 40  # faults in the text of one exception
MAX_ALIKE = 10  # of one kind in one file; a wrong root makes every path of a datalist wrong
MAX_NAMES = 8  # known names in a fix; the text of an exception lists them all
DEFAULT_CODE = "wrong-value"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: what kind of thing it is, such as "unknown-argument"; stable from version to version.
        severity: "error": training or evaluation would stop, or learn something wrong; "warning": it runs, but
            perhaps not as meant; "note": nothing is wrong, but the user should know it.
        file: the file that holds it.
        where: the JSON path in the file, or "line 3, column 5"; empty: the file as a whole.
        message: what is wrong, with the value.
        fix: what to write or do instead; empty where nobody can know.
        question: the fix as the text of an exception asks it, such as "did you mean 'Dice'?"; empty: as the fix.
    """

    code: str
    severity: Severity
    file: Path
    where: str
    message: str
    fix: str = ""
    question: str = field(default="", compare=False)

    @property
    def line(self) -> str:
        """All of it in one line, as the check and the log say it."""
        place = f"{self.where}: " if self.where else ""
        return f"{self.file}: {place}{self.message}" + (f"; {self.fix}" if self.fix else "")

    @property
    def text(self) -> str:
        """What is wrong and what to do, without the place, as an exception says it.

        The fix stands as a question where a name was misspelt: "unknown loss 'Dise'; did you mean 'Dice'?".
        """
        advice = self.question or self.fix
        return f"{self.message}; {advice}" if advice else self.message

    def to_json(self) -> dict[str, str]:
        """Its fields as a JSON object of strings."""
        return {
            "severity": self.severity,
            "code": self.code,
            "file": self.file.as_posix(),
            "path": self.where,
            "message": self.message,
            "fix": self.fix,
        }


class FaultyConfigError(ConfigError):
    """A configuration that can't be used, with what is wrong with it as findings.

    Attributes:
        faults: every finding of severity error, uncapped.
    """

    def __init__(
        self,
        message: str,
        *,
        faults: Sequence[Finding] = (),
        path: Path | None = None,
        where: str | None = None,
        findings: Sequence[str] = (),
    ) -> None:
        self.faults = tuple(faults)
        super().__init__(message, path=path, where=where, findings=findings)

    @classmethod
    def of(cls, finding: Finding, text: str = "") -> FaultyConfigError:
        """Make an exception of one finding.

        Args:
            finding: names the file and the place.
            text: what the exception says behind them; the finding's own text when left out.
        """
        return cls(text or finding.text, faults=[finding], path=finding.file, where=finding.where or None)


class ArgumentError(ValueError):
    """An argument that a validator of a component or a reader refuses, with the code and the fix of its finding."""

    def __init__(self, message: str, *, code: str = DEFAULT_CODE, fix: str | Suggestion = "") -> None:
        self.message, self.code, self.fix = message, code, fix
        advice = fix if isinstance(fix, str) else fix.question
        super().__init__(f"{message}; {advice}" if advice else message)


@dataclass(frozen=True)
class FindingCollector:
    """Collects what is wrong with one file.

    Attributes:
        file: where it is noted, unless a finding names another file.
        findings: what was noted, in order.
    """

    file: Path
    findings: list[Finding] = field(default_factory=list)

    def error(self, code: str, place: str, message: str, fix: str | Suggestion = "") -> None:
        """Note what would stop the work or make it wrong.

        Args:
            code: what kind of thing it is; docs/check.md lists them.
            place: a JSON path such as ``train.loss.args.gamma``; empty: the file as a whole.
            message: what is wrong, with the value received.
            fix: what to write or do instead.
        """
        self.add(Finding(code, "error", self.file, place, message, *_advice(fix)))

    def warning(self, code: str, place: str, message: str, fix: str | Suggestion = "") -> None:
        """Note what runs, but perhaps not as meant.

        Args:
            code: as for :meth:`error`.
            place: as for :meth:`error`.
            message: what is odd, with the value received.
            fix: what to write or do instead.
        """
        self.add(Finding(code, "warning", self.file, place, message, *_advice(fix)))

    def add(self, finding: Finding) -> None:
        """Note a finding, unless the very same is noted already."""
        if finding not in self.findings:
            self.findings.append(finding)

    def add_validation(
        self, error: ValidationError, place: str, *, skip: int = 0, model: type[BaseModel] | None = None
    ) -> None:
        """Note every fault that pydantic found in a user's values.

        Args:
            error: what validating them raised.
            place: the JSON path of the values, such as ``workspaces.spleen.split``.
            skip: leading parts of pydantic's own path that the file does not have, such as the tag of a union.
            model: what the values should be, for the nearest key to a misspelt one.
        """
        for fault in error.errors():
            code = "unknown-key" if fault["type"] == "extra_forbidden" else DEFAULT_CODE
            keys = fault["loc"][skip:]
            name, known = show(fault["input"]).strip("'"), list[str]()
            if code == "unknown-key":
                name, known = str(keys[-1]), _list_keys(model, keys[:-1])
            elif fault["type"] == "literal_error":
                known = re.findall(r"'([^']+)'", fault["ctx"]["expected"])
            near = suggest(name, known)
            path = ".".join(filter(None, [place, *map(str, keys)]))
            advice = near if near.nearest or (code == "unknown-key" and known) else ""
            self.error(code, path, f"{fault['msg']}, got {fault['input']!r}", advice)

    def add_alike(self, severity: Severity, code: str, items: Sequence[tuple[str, str, str]]) -> None:
        """Note things of one kind: the first ten, then how many more.

        Args:
            severity: of all of them.
            code: of all of them.
            items: (JSON path, message, fix) of each.
        """
        for place, message, fix in items[:MAX_ALIKE]:
            self.add(Finding(code, severity, self.file, place, message, fix))
        if len(items) > MAX_ALIKE:
            self.add(Finding(code, severity, self.file, "", f"and {len(items) - MAX_ALIKE} more like this"))

    def has(self, place: str) -> bool:
        """Whether something is noted at this JSON path of the file, above it or below it already.

        Example:
            >>> from pathlib import Path
            >>> findings = FindingCollector(Path("config_train.json"))
            >>> findings.error("unknown-key", "train.loss.nam", "unknown key", suggest("nam", ["name", "args"]))
            >>> findings.has("train.loss"), findings.has("train.optimizer")
            (True, False)
            >>> findings.findings[0].line
            "config_train.json: train.loss.nam: unknown key; write 'name'"
        """
        return any(
            finding.file == self.file and _touch(finding.where, place) for finding in self.findings if finding.where
        )

    @property
    def errors(self) -> list[Finding]:
        """The findings of severity error."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def raise_errors(self, title: str = "") -> None:
        """Raise one exception that holds every error, its text capped at ``MAX_SHOWN``; warnings alone pass.

        Args:
            title: the first line of its text; how many faults there are when left out.

        Raises:
            FaultyConfigError: there are errors.
        """
        faults = self.errors
        if not faults:
            return
        lines = [f"{self._place(fault)}: {fault.text}" for fault in faults[:MAX_SHOWN]]
        if len(faults) > MAX_SHOWN:
            lines.append(f"and {len(faults) - MAX_SHOWN} more")
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in the configuration"
        raise FaultyConfigError(title or count, faults=faults, findings=lines)

    def _place(self, finding: Finding) -> str:
        """File and JSON path; a fault of another file, such as environment.json, names both files."""
        files = [self.file] if finding.file == self.file else [self.file, finding.file]
        return ": ".join([*map(str, files), finding.where])


def _list_keys(model: type[BaseModel] | None, path: Sequence[int | str]) -> list[str]:
    """The keys that a model has at a path of models in it; none where that is not known."""
    for name in path:
        field = model.model_fields.get(str(name)) if model else None
        kind: Any = field.annotation if field else None
        model = kind if hasattr(kind, "model_fields") else None
    return list(model.model_fields) if model else []


def _advice(fix: str | Suggestion) -> tuple[str, str]:
    """The fix of a finding, and its question."""
    return (fix, "") if isinstance(fix, str) else (fix.fix, fix.question)


@dataclass(frozen=True)
class Suggestion:
    """What a misspelt name was probably meant to be.

    Attributes:
        nearest: the nearest known name; empty where none is near.
        known: every known name, sorted.
        is_taken: the nearest name stands beside the misspelt one already; written twice, the file would be wrong.
    """

    nearest: str = ""
    known: tuple[str, ...] = ()
    is_taken: bool = False

    @property
    def fix(self) -> str:
        """What to write: the nearest name, else some of the known ones."""
        if self.is_taken:
            return f"{self.nearest!r} is there already: take one of the two out"
        if self.nearest or len(self.known) <= MAX_NAMES + 2:
            return f"write {self.nearest!r}" if self.nearest else self.question
        return f"known: {', '.join(self.known[:MAX_NAMES])}, ... ({len(self.known)} in all)"

    @property
    def question(self) -> str:
        """The nearest name as a question, else all known ones; empty where there are none."""
        if self.is_taken:
            return f"did you mean {self.nearest!r}? It is there already: take one of the two out"
        if self.nearest:
            return f"did you mean {self.nearest!r}?"
        return f"known: {', '.join(self.known)}" if self.known else ""

    def __str__(self) -> str:
        """The question as the end of a sentence: "; did you mean 'X'?"."""
        return f"; {self.question}" if self.question else ""


def suggest(
    name: str, known_names: Iterable[str], *, ignore_case: bool = True, present: Container[str] = ()
) -> Suggestion:
    """Find what a misspelt name was meant to be; the text of the result ends a message.

    Args:
        name: as the user wrote it.
        known_names: what may be written.
        ignore_case: whether ``dice`` is as near to ``Dice`` as can be.
        present: what is written there already, such as the other keys of the object.

    Example:
        >>> str(suggest("Dise", ["CrossEntropy", "Dice"]))
        "; did you mean 'Dice'?"
        >>> suggest("Dise", ["CrossEntropy", "Dice"]).fix
        "write 'Dice'"
        >>> str(suggest("Hausdorff", ["CrossEntropy", "Dice"]))
        '; known: CrossEntropy, Dice'
        >>> str(suggest("looss", ["loss", "model"], present=["loss", "looss"]))
        "; did you mean 'loss'? It is there already: take one of the two out"
    """
    sorted_names = tuple(sorted(known_names))
    by_spelling = {candidate.lower() if ignore_case else candidate: candidate for candidate in sorted_names}
    match = nearest_name(name.lower() if ignore_case else name, by_spelling)
    nearest = by_spelling[match] if match else ""
    return Suggestion(nearest, sorted_names, is_taken=bool(nearest) and nearest in present)


def nearest_name(name: str, known_names: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the known name that is spelt most alike; empty where none is near.

    Args:
        name: as the user wrote it.
        known_names: what may be written.
        cutoff: how alike the two must be, from 0 (anything) to 1 (the same); see :mod:`difflib`.

    Example:
        >>> nearest_name("segmentaton", ["classification", "segmentation"])
        'segmentation'
        >>> nearest_name("regression", ["segmentation"])
        ''
    """
    return next(iter(difflib.get_close_matches(name, list(known_names), n=1, cutoff=cutoff)), "")


def show(value: Any, limit: int = 60) -> str:
    """Return a value as its finding shows it: Python's notation, shortened.

    Example:
        >>> show([96, 96, 96])
        '[96, 96, 96]'
        >>> show("x" * 100, limit=8)
        "'xxxxxx…"
    """
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _touch(path: str, other_path: str) -> bool:
    """Whether two JSON paths are the same or one lies inside the other."""
    shorter, longer = sorted((path, other_path), key=len)
    return longer == shorter or longer.startswith((f"{shorter}.", f"{shorter}["))
