"""Runs ``voxflow serve``: an exported model answers HTTP requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.cli.command import Command
from voxflow.cli.options import describe_flags
from voxflow.errors import EXIT_OK, ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

# Addresses that only this machine reaches; any other one opens the service to whoever is on the network.
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeCommand(Command):
    """Answer requests until stopped.

    Attributes:
        model: a model file, a folder of exported models, or an MMAR.
        host, port: the address to listen on.
        engine: the engine that runs the model, or "auto".
        limits: fields of ``ServeLimits`` that were given.
    """

    name: ClassVar[str] = "serve"
    help: ClassVar[str] = "serve an exported model over HTTP: send a NIfTI or a zip of DICOM, receive a mask or SEG"

    model: Path
    host: str = "127.0.0.1"
    port: int = 8080
    engine: str = "auto"
    limits: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Declare the flags; each field of ``ServeLimits`` is one."""
        from voxflow.serving import ServeLimits

        parser.add_argument("model", type=Path, help="a model file, a folder of exported models, or an MMAR")
        parser.add_argument("--host", default=cls.host, help="address to listen on (default: this machine only)")
        parser.add_argument("--port", type=int, default=cls.port, help="port to listen on (default: %(default)s)")
        parser.add_argument("--engine", default="auto", help="engine of the model (default: the fastest available)")
        for name, info in ServeLimits.model_fields.items():
            kind = float if isinstance(info.default, float) else int
            flag = f"--{name.replace('_', '-')}"
            parser.add_argument(flag, type=kind, metavar="N", help=f"see docs/serving.md (default: {info.default:g})")

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> ServeCommand:
        """Take the parsed flags; a limit that was not given keeps the default of ``ServeLimits``."""
        from voxflow.serving import ServeLimits

        values = vars(arguments)
        limits = {name: values[name] for name in ServeLimits.model_fields if values[name] is not None}
        return cls(arguments.model, arguments.host, arguments.port, arguments.engine, limits)

    def run(self) -> int:
        """Load the model and listen.

        Raises:
            ConfigError: a limit is no positive number, or there is no such engine.
        """
        import uvicorn
        from pydantic import ValidationError

        from voxflow.engines import open_engine
        from voxflow.inference import InferOptions
        from voxflow.mmar import resolve_model
        from voxflow.serving import ServeLimits, make_app

        try:
            limits = ServeLimits.model_validate(self.limits)
            options = InferOptions.model_validate({"engine": self.engine})
        except ValidationError as error:
            raise ConfigError(describe_flags(error)) from error
        engine = open_engine(resolve_model(self.model), options.engine)
        if self.host not in LOOPBACK:
            say(f"serve: warning: {self.host} is open to other machines, and nobody has to say who he is")
        say(f"serve: {self.model} ({engine.name}) on http://{self.host}:{self.port}/predict")
        uvicorn.run(make_app(engine, options, limits), host=self.host, port=self.port, log_level="warning")
        return EXIT_OK
