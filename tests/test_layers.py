"""Imports go inward and through doors only: the contracts stand in pyproject.toml, and the documentation tells them."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import grimp
import numpy as np
import pytest

from tests.inference.models import UNET, build_seeded, volume_spec
from voxflow.engines import write_onnx, write_openvino
from voxflow.geometry import Geometry
from voxflow.spec import TransformSpec
from voxflow.volumes import Volume, write_volume

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
ROWS = next(
    [re.split(r" *: *", row) for row in contract["layers"]]
    for contract in CONTRACTS
    if contract.get("containers") == ["voxflow"]
)
PACKAGES = sorted(path.parent.name for path in (ROOT / "src/voxflow").glob("*/__init__.py"))


def test_import_contracts_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_help_starts_without_torch_and_numpy() -> None:
    code = (
        "import sys; from voxflow.cli.main import make_parser; make_parser().format_help(); "
        "sys.exit(', '.join({'torch', 'numpy'} & sys.modules.keys()) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


INFERRED = """
import sys
from voxflow import machine
from voxflow.cli.main import main
machine._GPU_DEVICES = ()
code = main(["infer", "model.xml", "--images", "a.nii.gz", "--out", "out"])
sys.exit(code or ", ".join({"torch", "monai", "mlflow", "pandas", "pydicom"} & sys.modules.keys()) or 0)
"""


def test_inference_on_a_processor_takes_no_torch(tmp_path: Path) -> None:
    scale = {"fields": "image", "a_min": -1, "a_max": 1, "b_min": 0, "b_max": 1, "clip": True}
    spec = volume_spec(spacing_mm=(1.5, 1.5, 2), preprocess=(TransformSpec(name="ScaleIntensityRange", args=scale),))
    write_onnx(build_seeded(UNET), spec, tmp_path / "model.onnx", 18)
    write_openvino(tmp_path / "model.onnx", spec, tmp_path / "model.xml", fp16_weights=False)
    image = np.random.default_rng(0).normal(size=(20, 18, 12)).astype(np.float32)
    write_volume(tmp_path / "a.nii.gz", Volume(image, Geometry.from_parts(image.shape, (1, 1, 2))))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", INFERRED]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.count("1 of 1 cases (openvino)")) == (0, 1), result.stderr


def test_every_package_has_a_contract_for_its_door() -> None:
    doors = [contract["protected_modules"] for contract in CONTRACTS if contract["type"] == "protected"]
    assert doors == [[f"voxflow.{package}.*"] for package in PACKAGES]


def test_the_documentation_has_the_packages_in_their_order() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = text.partition("| from the commands down |")[2].partition("\n\n")[0].splitlines()[2:]
    assert [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table] == ROWS


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """With imports for types, which the contracts leave out."""
    return grimp.build_graph("voxflow", "tasks", "flows", exclude_type_checking_imports=False, cache_dir=None)


def test_imports_for_types_go_through_doors_too(graph: grimp.ImportGraph) -> None:
    past = {
        f"{importer} -> {module}"
        for package in PACKAGES
        for module in graph.find_descendants(f"voxflow.{package}")
        for importer in graph.find_modules_that_directly_import(module)
        if not f"{importer}.".startswith(f"voxflow.{package}.")
    }
    assert past == set()


def test_imports_for_types_go_down_too(graph: grimp.ImportGraph) -> None:
    rank = {package: number for number, row in enumerate(ROWS) for package in row}
    upward = set()
    for importer in graph.modules:
        for module in graph.find_modules_directly_imported_by(importer):
            above, below = (rank.get(name.split(".")[1]) if name.count(".") else None for name in (importer, module))
            if importer.startswith("voxflow.") and None not in (above, below) and above > below:  # type: ignore[operator]
                upward.add(f"{importer} -> {module}")
    assert upward == set()
