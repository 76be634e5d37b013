"""Runs ``voxflow package``: a model as a container's folder, or as a model repository of Triton."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.cli.mmar_path import WORKSPACE_HELP, find_mmar
from voxflow.errors import EXIT_OK, ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class PackageCommand(Command):
    """Package an exported model for others.

    Attributes:
        model: a workspace, a folder of exported models, or one exported file.
        out: a new or empty folder.
        format: "container" or "triton".
        model_name: what the package calls it; empty: as the workspace.
        build: "cpu" or "gpu": build the image with Docker, too; None: do not.
    """

    name: ClassVar[str] = "package"
    help: ClassVar[str] = (
        "write a folder that a container with a model and its service is built from, or one for Triton"
    )

    model: Path
    out: Path
    format: str = "container"
    model_name: str = ""
    build: str | None = None

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        word = f"{WORKSPACE_HELP}, a folder of exported models, or one exported file"
        parser.add_argument("model", type=Path, metavar="MODEL", help=word)
        parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
        parser.add_argument("--format", choices=("container", "triton"), default="container", help="(%(default)s)")
        parser.add_argument("--model_name", default="", metavar="NAME", help="default: as the workspace")
        parser.add_argument("--build", choices=("cpu", "gpu"), help="build the image with Docker, too")

    def run(self) -> int:
        """Write the folder, and say what is in it.

        Raises:
            ConfigError: only a container is built, or torch would not start beside a folder of this name.
            DataError: no exported model is there, or nothing says that it equals torch.
            InputError: the folder is not empty.
            MissingDependencyError: an image is to be built, and there is no Docker.
            ParityError: the model differed from torch in the export.
        """
        from voxflow.packaging import build_image, find_packaged_model, write_container, write_triton
        from voxflow.places import check_folder_name

        if self.build and self.format != "container":
            raise ConfigError(f"--build builds a container, not {self.format}")
        check_folder_name(self.out)
        model = find_packaged_model(find_mmar(self.model), self.model_name)
        write = write_container if self.format == "container" else write_triton
        write(model, self.out)
        engines = "model.onnx" if self.format == "triton" else ", ".join(model.files)
        say(f"package: {model.name} ({engines}) → {self.out}; its README.md says how to run it")
        if self.build:
            say(f"package: docker run --rm --publish 127.0.0.1:8080:8080 {build_image(model, self.out, self.build)}")
        return EXIT_OK
