"""Defines what every command has: a name, a line of help, flags, and a run that returns the exit code."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class Command:
    """A command with its flags as typed fields, so that a test can run it without a command line.

    Attributes:
        name: the word after ``voxflow``.
        help: one line for ``voxflow --help``.
    """

    name: ClassVar[str]
    help: ClassVar[str]

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> Command:
        """Make the command from the parsed flags: each field takes the flag of its name, a list as a tuple.

        Raises:
            ConfigError: a flag's value is wrong, in commands that parse it further.
        """
        values = {field.name: getattr(arguments, field.name) for field in fields(cls)}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def run(self) -> int:
        """Do the work, and say what came of it in a line.

        Returns:
            The exit code; see :mod:`voxflow.errors`.

        Raises:
            VoxflowError: the work could not be done; ``voxflow`` prints the error as one line.
        """
        raise NotImplementedError
