"""A workspace around a bundle of a test: its data, its stages, and MONAI's own command line beside them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.bundle.shape_parts import CASES, write_config, write_radiographs, write_volumes
from tests.bundle.shapes import SHAPES, Shape
from voxflow.bundle import BundleOptions, evaluate_bundle, infer_bundle, train_bundle
from voxflow.bundle.guard import StageBounds
from voxflow.bundle.parts import _forget_modules, open_bundle, run_workflow
from voxflow.bundle.reading import use_bundle
from voxflow.tracking import NullTracker

if TYPE_CHECKING:
    from collections.abc import Iterator


class Workspace:
    """A bundle, its data, and the folders of a workspace.

    Args:
        root: an empty folder, or one in which such a workspace lies.
        shape: the bundle's form.
    """

    def __init__(self, root: Path, shape: Shape) -> None:
        self.root, self.shape = root, shape
        self.bundle, self.data = root / "mmars/ws/config", root / "data"
        self.model = root / "mmars/ws/models/train"
        if self.bundle.exists():
            return
        (write_radiographs if shape.is_flat else write_volumes)(self.data)
        shape.write(self.bundle, self.data)
        if not shape.is_flat:
            name = "paired.json" if shape is SHAPES["listed"] else "dataset.json"
            shutil.copy(self.data / name, self.bundle / "configs/datalist.json")

    def options(self, stage: str, **changes: Any) -> BundleOptions:
        """What the workspace says."""
        stated = {**self.shape.options.get("", {}), **self.shape.options.get(stage, {})}
        return BundleOptions(**{**stated, **changes})

    def items(self, *names: str, with_label: bool = True) -> list[dict[str, Any]]:
        """Cases as the stages list them."""
        return [self._item(name, with_label) for name in names]

    def _item(self, name: str, with_label: bool) -> dict[str, Any]:
        number = CASES.index(name)
        if self.shape.is_flat:
            part = "train" if number < 2 else "val" if number == 2 else "test"
            image, label = self.data / f"{part}/{name}.png", self.data / f"{part}/{name}_seg.png"
        else:
            part = "Tr" if number < 3 else "Ts"
            image, label = self.data / f"images{part}/{name}.nii.gz", self.data / f"labels{part}/{name}.nii.gz"
        item: dict[str, Any] = {"image": str(image), "label": str(label)}
        if self.shape is SHAPES["listed"]:
            item["image"] = [str(image), str(image).replace("images", "second")]
        if self.shape is SHAPES["classifier"]:
            item["label"] = number % 2
        return item if with_label else {"image": item["image"]}

    def change(self, name: str, values: dict[str, Any]) -> None:
        """Set ids of one of the bundle's configurations."""
        content = yaml.safe_load((self.bundle / "configs" / name).read_text())
        write_config(self.bundle, name, content | values)

    def run(self, stage: str, **changes: Any) -> dict[str, float]:
        """Run a stage: on its cases, where ``items`` does not say others."""
        return {"train": self.train, "evaluate": self.evaluate, "infer": self.infer}[stage](**changes)

    def train(self, **changes: Any) -> dict[str, float]:
        """Train on two cases, and validate on the third."""
        options = self.options("train", **changes)
        data = {options.train_data: self.items(*CASES[:2]), options.validate_data: self.items(CASES[2])}
        curves = self.model.parent / "curves.csv"
        return train_bundle(self.bundle, self.model, options, data=data, tracker=NullTracker(), curves=curves).numbers

    def out(self, stage: str) -> Path:
        """The folder that a stage writes to."""
        return self.model if stage == "train" else self.root / f"mmars/ws/eval/{stage}"

    def evaluate(self, items: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, float]:
        """Evaluate on the case that training validated on."""
        options, out = self.options("evaluate", **changes), self.out("evaluate")
        out.mkdir(parents=True, exist_ok=True)
        data = {options.validate_data: items or self.items(CASES[2])}
        return evaluate_bundle(self.bundle, self.model, out, options, data=data).numbers

    def infer(self, items: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, float]:
        """Infer the case that has no label."""
        options, out = self.options("infer", **changes), self.out("infer")
        out.mkdir(parents=True, exist_ok=True)
        data = {options.infer_data: items or self.items(CASES[3], with_label=False)}
        return infer_bundle(self.bundle, self.model, out, options, data=data).numbers

    def run_stock(self, stage: str, engine: str) -> Any:
        """Run a copy of the bundle as MONAI's command line does, in the copy's folder; returns the engine."""
        from monai.bundle import ConfigWorkflow

        copy = self.root / "stock"
        if not copy.exists():
            shutil.copytree(self.bundle, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if stage != "train":
            (copy / "models").mkdir(exist_ok=True)
            shutil.copy(self.model / "model.pt", copy / self.shape.weights)
        values = {**self.shape.stock.get("", {}), **self.shape.stock.get(stage, {})}
        values = {name: str(value).replace("DATA", str(self.data)) for name, value in values.items()}
        if "data_list_file_path" in values:
            values["data_list_file_path"] = "configs/datalist.json"
        files = [f"configs/{name}" for name in getattr(self.shape, stage)]
        entry = self.shape.entries.get(stage, "run")
        with in_folder(copy):
            workflow = ConfigWorkflow(
                files, logging_file=False, run_id=entry, workflow_type=None, bundle_root=".", **values
            )
            workflow.initialize()
            workflow.run()
            workflow.finalize()
            return workflow.parser.get_parsed_content(engine)


def run_configuration(bundle: Path, options: BundleOptions | None = None) -> Any:
    """Run the training of a bundle that needs no cases, and give the value of its id ``calls``."""
    bounds, options = StageBounds((bundle / "out",)), options or BundleOptions()
    with use_bundle(bundle), open_bundle(bundle, "train", options, folders={}, data={}, bounds=bounds) as workflow:
        run_workflow(workflow)
        return workflow.parser.get_parsed_content("calls") if "calls" in workflow.parser else None


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Run something in a folder, with its modules."""
    before, path = Path.cwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        _forget_modules(folder)


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time by name, of all files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
