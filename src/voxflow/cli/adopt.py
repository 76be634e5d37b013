"""Runs ``voxflow adopt``: makes a workspace of a model that was trained elsewhere."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from voxflow.cli.command import Command
from voxflow.errors import EXIT_OK, ConfigError
from voxflow.progress import say

if TYPE_CHECKING:
    import argparse

    from voxflow.adopt import AdoptedModel, Original, ParityResult

CONFIGS = "configs"  # of a MONAI bundle


@dataclass(frozen=True)
class AdoptCommand(Command):
    """Adopt a model that was trained elsewhere.

    Attributes:
        paths: a result folder of nnU-Net v2, or several whose masks are joined; a MONAI bundle or its inference
            configuration, or a YAML file that describes a model.
        name: of the new workspace.
        source: the folder of images that the workspace converts.
        folds: names of the folds; empty: all that are there.
        checkpoint: name of the checkpoints; None: the final ones, else the best.
        masks: a folder of masks that the original made, which Voxflow's are compared with; None: it is run.
        images: the images that are compared on; None: nothing is compared.
        least_equal: the share of equal voxels below which nothing is adopted.
        original_python: a Python that has nnunetv2, or MONAI for a bundle; None: the present one for nnU-Net, where it
            has it.
        report: a folder for the page and the numbers of the comparison, also of one that is refused; None: they
            stand in the workspace alone.
        postprocessing: nnU-Net's postprocessing.pkl; None: none.
        classes: a class map for the names of nnU-Net's classes, FILE or FILE:NAME, of several folders for those of the
            joined mask; None: those of its dataset.json.
        steps: "auto" repeats what TotalSegmentator does around nnU-Net where the folders are its own; "nnunet"
            leaves it out.
    """

    name: ClassVar[str] = "adopt"
    help: ClassVar[str] = "make a workspace of a model that was trained elsewhere"

    paths: tuple[Path, ...]
    workspace: str
    source: str | None
    folds: tuple[str, ...]
    checkpoint: str | None
    masks: Path | None
    images: Path | None
    least_equal: float
    postprocessing: Path | None
    classes: str | None
    original_python: str | None = None
    report: Path | None = None
    steps: str = "auto"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        path = "nnU-Net's result folder, which holds plans.json and fold_0; a MONAI bundle, which holds configs; or a "
        path += "YAML file that describes a model. The masks of several result folders are joined"
        parser.add_argument("paths", type=Path, nargs="+", metavar="path", help=path)
        parser.add_argument("--name", dest="workspace", required=True, help="name of the new workspace")
        parser.add_argument("--source", help="the folder of images for its stages (default: data/raw/NAME)")
        parser.add_argument("--folds", nargs="+", default=[], metavar="FOLD", help="such as 0 1 (default: all of them)")
        parser.add_argument("--checkpoint", help="default: checkpoint_final.pth, else checkpoint_best.pth")
        parser.add_argument("--postprocessing", type=Path, metavar="FILE", help="nnU-Net's postprocessing.pkl to apply")
        names = "names of the classes: JSON, YAML, or TotalSegmentator's map_to_binary.py"
        parser.add_argument("--classes", metavar="FILE[:NAME]", help=names)
        steps = "nnunet: leave out what TotalSegmentator does around nnU-Net (default: repeat it for its folders)"
        parser.add_argument("--steps", choices=("auto", "nnunet"), default="auto", help=steps)
        compared = parser.add_argument_group("comparison", "segment images and compare with the original's masks")
        compared.add_argument("--images", type=Path, metavar="DIR", help="images, CASE_0000.nii.gz and so on")
        masks = "the original's masks of them, CASE.nii.gz (default: the original is run)"
        compared.add_argument("--masks", type=Path, metavar="DIR", help=masks)
        python = (
            "a Python that has nnunetv2, totalsegmentator (default: this one), or MONAI, which runs a bundle's code"
        )
        compared.add_argument("--original-python", metavar="PYTHON", help=python)
        report = "a folder for the page and the numbers, also where the model is refused"
        compared.add_argument("--report", type=Path, metavar="DIR", help=report)
        least = "share of equal voxels below which nothing is adopted (default: %(default)s)"
        compared.add_argument("--least-equal", type=float, default=0.9999, metavar="SHARE", help=least)

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> AdoptCommand:
        """Take the parsed flags.

        Raises:
            ConfigError: flags that go together, one without the other, or a share that is none.
        """
        for flag in ("masks", "original_python", "report"):
            if getattr(arguments, flag) is not None and arguments.images is None:
                raise ConfigError(f"--{flag.replace('_', '-')} needs --images: nothing is compared without images")
        if not 0 <= arguments.least_equal <= 1:
            raise ConfigError(f"--least-equal: needs a share from 0 to 1, received {arguments.least_equal:g}")
        if len(arguments.paths) > 1 and arguments.postprocessing:
            raise ConfigError("--postprocessing is of one result folder, and several are joined")
        return cls(
            paths=tuple(arguments.paths),
            workspace=arguments.workspace,
            source=arguments.source,
            folds=tuple(arguments.folds),
            checkpoint=arguments.checkpoint,
            masks=arguments.masks,
            images=arguments.images,
            least_equal=arguments.least_equal,
            postprocessing=arguments.postprocessing,
            classes=arguments.classes,
            original_python=arguments.original_python,
            report=arguments.report,
            steps=arguments.steps,
        )

    def run(self) -> int:
        """Read the model, compare it where asked to, and make the workspace.

        Raises:
            ConfigError: the name is taken, or no name.
            DataError: the folder holds no model that can be adopted.
            ParityError: the masks are not those of the original; nothing is made.
        """
        from voxflow.adopt import check_adoption, create_adopted, read_largest
        from voxflow.locks import hold_file
        from voxflow.places import PARAMS

        root = Path()
        check_adoption(self.workspace, root)
        model = self._read()
        largest = read_largest(self.postprocessing, model.spec) if self.postprocessing else []
        result = self._compare(model, self.images) if self.images else None
        source = self.source or f"data/raw/{self.workspace}"
        with hold_file(PARAMS, say) if PARAMS.is_file() else nullcontext():
            folder = create_adopted(self.workspace, model, source=source, root=root, result=result, largest=largest)
        compared = (
            f"the same masks in {len(result.cases)} cases" if result else "not compared with the original's masks"
        )
        parts = ", ".join(model.folds) or model.origin
        names = ", ".join(path.name for path in self.paths)
        for note in model.notes:
            say(f"adopt {self.workspace}: {note}")
        say(f"adopt {self.workspace}: {parts} of {names}; {compared} → {folder}")
        return EXIT_OK

    @property
    def path(self) -> Path:
        """The first of the paths, which but for joined models is the only one."""
        return self.paths[0]

    def _read(self) -> AdoptedModel:
        from voxflow.adopt import read_bundle, read_plain

        bundle = self._find_bundle()
        if len(self.paths) > 1 or (not self.path.is_file() and not bundle):
            return self._read_folders()
        if self.folds or self.checkpoint or self.classes:
            raise ConfigError("--folds, --checkpoint and --classes are of nnU-Net's result folders", path=self.path)
        if bundle:
            return read_bundle(*bundle)
        if self.path.suffix.lower() not in (".yaml", ".yml"):
            message = "a model is described by a YAML file that names it by the key file; docs/adopt.md shows such"
            raise ConfigError(message, path=self.path)
        return read_plain(self.path)

    def _read_folders(self) -> AdoptedModel:
        """Read result folders of nnU-Net, with what TotalSegmentator does around it where they are its own."""
        from voxflow.adopt import describe_omission, find_task, read_joined, read_nnunet, rename_classes, repeat_steps

        task = find_task(self.paths) if self.steps == "auto" else None
        folds = self.folds or (task.folds if task else ())
        if len(self.paths) > 1:
            model = read_joined(self.paths, folds, self.checkpoint, self.classes)
        else:
            model = read_nnunet(self.path, folds, self.checkpoint)
            model = rename_classes(model, self.classes) if self.classes else model
        if task:
            return repeat_steps(model, task, self.classes)
        omission = describe_omission(self.paths) if self.steps == "auto" else ""
        return replace(model, notes=(*model.notes, omission)) if omission else model

    def _find_bundle(self) -> tuple[Path, Path | None] | None:
        """The bundle's folder and its configuration, where one is named; None: it is no bundle."""
        if self.path.is_file() and self.path.parent.name == CONFIGS:
            return self.path.parent.parent, self.path
        return (self.path, None) if (self.path / CONFIGS).is_dir() else None

    def _compare(self, model: AdoptedModel, images: Path) -> ParityResult:
        """Compare with the original; the report is written before a model is refused."""
        from voxflow.adopt import (
            Comparison,
            compare_adoption,
            describe_adoption,
            require_parity,
            write_parity_report,
        )
        from voxflow.engines import TorchEngine

        result = compare_adoption(
            Comparison(
                TorchEngine.wrap(model.network, model.spec),
                images,
                self.masks,
                model.file_ending,
                self.least_equal,
                self._find_original(model),
            )
        )
        if self.report:
            write_parity_report(self.report, self.workspace, describe_adoption(model, result), result)
        require_parity(result)
        return result

    def _find_original(self, model: AdoptedModel) -> Original | None:
        """The tool that the model comes from; None where it is not at hand, and its masks are."""
        from voxflow.adopt import BundleOriginal, JoinedOriginal, NnunetOriginal, find_python

        if model.spec.totalsegmentator:
            return self._find_totalsegmentator(model)
        python = find_python(self.original_python)
        if model.parts and python:
            parts = [
                NnunetOriginal(python, part.folder, part.folds, part.file_ending, self.checkpoint)
                for part in model.parts
                if part.folder
            ]
            return JoinedOriginal(python, tuple(parts), model.spec, model.file_ending)
        bundle = self._find_bundle()
        if bundle and self.original_python and python:
            return BundleOriginal(python, bundle[0], model.file_ending, bundle[1])
        if model.folds and python and not model.spec.previous:
            return NnunetOriginal(python, self.path, model.folds, model.file_ending, self.checkpoint)
        is_nnunet = bool(model.folds or model.parts)
        if self.masks and not (self.original_python and (not is_nnunet or model.spec.previous)):
            return None
        if bundle:
            message = "a bundle runs its own code: name a Python that has MONAI with --original-python"
        elif model.spec.previous:
            message = "a cascade is not run here"
        elif is_nnunet:
            message = "nnunetv2 is not installed here: name a Python that has it with --original-python"
        else:
            message = "nothing can be run here"
        raise ConfigError(f"{message}; masks that the original made are compared with --masks")

    def _find_totalsegmentator(self, model: AdoptedModel) -> Original | None:
        """TotalSegmentator itself; None where it is not at hand, and its masks are."""
        from voxflow.adopt import TotalSegmentatorOriginal, find_python, find_task

        if model.parts and not self.classes:
            message = "TotalSegmentator's masks have its own label values: name its class map with --classes, such as"
            raise ConfigError(f"{message} .../totalsegmentator/map_to_binary.py:total")
        python, task = find_python(self.original_python, "totalsegmentator"), find_task(self.paths)
        if python and task and (self.original_python or not self.masks):
            folders = [part.folder for part in model.parts or (model,) if part.folder]
            weights = {folder.resolve().parent.name: folder for folder in folders}
            return TotalSegmentatorOriginal(python, task.name, task.mode, weights, model.file_ending)
        if self.masks:
            return None
        message = "TotalSegmentator is not installed here: name a Python that has it with --original-python"
        raise ConfigError(f"{message}; masks that it made are compared with --masks")
