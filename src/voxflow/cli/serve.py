"""Runs ``voxflow serve``: an exported model answers HTTP requests."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.cli.command import Command
from voxflow.cli.options import describe_flags
from voxflow.errors import EXIT_FAILURE, EXIT_OK, ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

    from voxflow.inference import InferOptions
    from voxflow.serving import ServeLimits

LOG_MB = 10


@dataclass(frozen=True)
class ServeCommand(Command):
    """Answer requests until stopped.

    Attributes:
        model: a model file, a folder of exported models, or an MMAR.
        host, port: the address to listen on.
        engine: the engine that runs the model, or "auto".
        device: "cpu", "cuda", or "cuda:1"; None: the first GPU where there is one.
        swapped_channels: what becomes of a case whose channels look swapped, "refuse" or "warn".
        token_file: holds the token that clients must show; None: VOXFLOW_SERVE_TOKEN does, if anything.
        review_below: cases whose Dice may be lower are marked for review; None: nobody asks.
        log: the file of the log; None: standard error.
        log_mb: of one file of the log.
        limits: fields of ``ServeLimits`` that were given.
    """

    name: ClassVar[str] = "serve"
    help: ClassVar[str] = "serve an exported model over HTTP: send a NIfTI or a zip of DICOM, receive a mask or SEG"

    model: Path
    host: str = "127.0.0.1"
    port: int = 8080
    engine: str = "auto"
    device: str | None = None
    token_file: Path | None = None
    log: Path | None = None
    log_mb: int = LOG_MB
    swapped_channels: str = "refuse"
    extra_outputs: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    review_below: float | None = None

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Declare the flags; each field of ``ServeLimits`` is one."""
        from voxflow.serving import ServeLimits

        parser.add_argument("model", type=Path, help="a model file, a folder of exported models, or an MMAR")
        parser.add_argument("--host", default=cls.host, help="address to listen on (default: this machine only)")
        parser.add_argument("--port", type=int, default=cls.port, help="port to listen on (default: %(default)s)")
        parser.add_argument("--engine", default="auto", help="engine of the model (default: the fastest available)")
        where = "cpu, cuda, or cuda:1 for the second GPU (default: the first GPU, if there is one)"
        parser.add_argument("--device", metavar="NAME", help=where)
        swaps = "cases whose channels look swapped (default: %(default)s)"
        parser.add_argument("--swapped-channels", choices=("refuse", "warn"), default="refuse", help=swaps)
        more = "write into the zip that is sent back: rtstruct, sr, stl, glb, statistics, radiomics"
        parser.add_argument("--extra-outputs", nargs="+", default=(), metavar="KIND", help=more)
        bound = "mark cases whose Dice may be lower for review; needs a calibrated model (docs/trust.md)"
        parser.add_argument("--review-below", type=float, metavar="DICE", help=bound)
        parser.add_argument("--token-file", type=Path, metavar="FILE", help="clients must show the token in this file")
        parser.add_argument("--log", type=Path, metavar="FILE", help="log of requests (default: standard error)")
        parser.add_argument(
            "--log-mb", type=int, default=LOG_MB, metavar="N", help="size of a log (default: %(default)s)"
        )
        for name, info in ServeLimits.model_fields.items():
            kind = float if isinstance(info.default, float) else int
            default = "that of params.yaml" if info.default_factory else f"{info.default:g}"
            flag = f"--{name.replace('_', '-')}"
            parser.add_argument(flag, type=kind, metavar="N", help=f"see docs/serving.md (default: {default})")

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> ServeCommand:
        """Take the parsed flags; a limit that was not given keeps the default of ``ServeLimits``."""
        from voxflow.serving import ServeLimits

        values = vars(arguments)
        limits = {name: values[name] for name in ServeLimits.model_fields if values[name] is not None}
        return cls(
            arguments.model,
            arguments.host,
            arguments.port,
            arguments.engine,
            arguments.device,
            arguments.token_file,
            arguments.log,
            arguments.log_mb,
            arguments.swapped_channels,
            tuple(arguments.extra_outputs),
            limits,
            arguments.review_below,
        )

    def run(self) -> int:
        """Load the model and listen.

        Raises:
            ConfigError: a limit is no positive number, there is no such engine, or the token is none.
            OSError: the address is in use, or the log can't be written.
        """
        from voxflow.serving import load_token, start_log, stop_log

        limits, options = self._check_flags()
        token = load_token(self.token_file)
        handler = start_log(self.log, self.log_mb)
        try:
            return self._listen(limits, options, token)
        finally:
            stop_log(handler)

    def _check_flags(self) -> tuple[ServeLimits, InferOptions]:
        from pydantic import ValidationError

        from voxflow.inference import InferOptions
        from voxflow.serving import ServeLimits

        if self.log_mb < 1:
            raise ConfigError("--log-mb: a positive number")
        try:
            options = {
                "engine": self.engine,
                "device": self.device,
                "swapped_channels": self.swapped_channels,
                "extra_outputs": self.extra_outputs,
                "review_below": self.review_below,
            }
            return ServeLimits.model_validate(self.limits), InferOptions.model_validate(options)
        except ValidationError as error:
            raise ConfigError(describe_flags(error)) from error

    def _listen(self, limits: ServeLimits, options: InferOptions, token: str | None) -> int:
        from voxflow.engines import open_engine
        from voxflow.inference import open_any_reviewer
        from voxflow.mmar import resolve_model
        from voxflow.serving import VARIABLE, is_loopback, make_app, make_server, open_listeners

        model = resolve_model(self.model)
        engine = open_engine(model, options.engine, options.device)
        reviewer = open_any_reviewer(engine, [model], options)
        if token is None and not is_loopback(self.host):
            say(
                f"serve: warning: {self.host} is open to other machines, and nobody has to say who he is; "
                f"set {VARIABLE} or --token-file, or put it behind a proxy with a log-in"
            )
        listeners = open_listeners(self.host, self.port)
        app = make_app(engine, options, limits, token, reviewer)
        server = make_server(app)
        port = listeners[0].getsockname()[1]
        host = f"[{self.host}]" if ":" in self.host else self.host
        say(f"serve: {self.model} ({engine.name}) on http://{host}:{port}/predict")
        try:
            server.run(sockets=listeners)
        finally:
            if app.state.service.accepted:
                # Its time is over, and Python would wait for the thread that is at work.
                os._exit(EXIT_FAILURE)
        return EXIT_OK
