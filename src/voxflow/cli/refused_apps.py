"""Answers for programs of Clara's that are not carried: one line with what to use instead, and the exit code 2.

``python -m nvmidl.apps.automl.train`` and its like are looked up as modules, so that the packages ``nvmidl.apps`` and
``medl.apps`` hand every name of such a family to the loader here.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from typing import TYPE_CHECKING

from voxflow.errors import EXIT_WRONG_INPUT
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


class RefusedApps(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds any module of a family of programs, and runs it as its refusal.

    Attributes:
        package: "nvmidl.apps", "medl.apps" or "dlmed".
    """

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module below a refused family's name."""
        if not _find_advice(fullname, self.package):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        """Whether modules may be looked for below it; the program itself is one that runs."""
        return not fullname.endswith(".__main__")

    def get_source(self, fullname: str) -> str:
        """The program: it refuses, and does nothing when it is imported."""
        if not fullname.endswith(".__main__"):
            return ""
        program = fullname.removesuffix(".__main__")
        return f"from voxflow.cli.refused_apps import refuse\nraise SystemExit(refuse({program!r}, {self.package!r}))\n"


def install(package: str) -> None:
    """Answer for the refused programs of a package.

    Args:
        package: "nvmidl.apps", "medl.apps" or "dlmed".
    """
    if not any(isinstance(finder, RefusedApps) and finder.package == package for finder in sys.meta_path):
        sys.meta_path.append(RefusedApps(package))


def refuse(program: str, package: str) -> int:
    """Say in one line why a program is not carried, and what to use instead.

    Args:
        program: its module.
        package: the package that it lies in.

    Returns:
        2, the exit code of wrong input.
    """
    say(f"{program}: {_find_advice(program, package)}")
    return EXIT_WRONG_INPUT


def _find_advice(module: str, package: str) -> str:
    if not module.startswith(f"{package}."):
        return ""
    # Only now: what is imported here asks every finder, this one too.
    from voxflow.config import APP_ADVICE

    return APP_ADVICE.get(module.removeprefix(f"{package}.").partition(".")[0], "")
