"""Writes the folder of a container for one model: code, model files, pinned requirements, manifests, and texts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import voxflow
from voxflow.engines import get_engine_kind
from voxflow.errors import DataError, MissingDependencyError, VoxflowError
from voxflow.files import write_json, write_text
from voxflow.inference import digest_exported_models
from voxflow.packaging.folder import fill_template, new_folder
from voxflow.progress import say
from voxflow.trust import CALIBRATION_FILE, read_any_calibration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.packaging.source import PackagedModel
    from voxflow.spec import ModelSpec

PORT = 8080
# Where MONAI Deploy has an application in its container, and what it mounts; see the specification of the MONAI
# Application Package 1.0.
APPLICATION, WORK = "/opt/holoscan/app", "/var/holoscan"
# What inference and the service import, by the names of the package registry; training and tracking need more.
REQUIRED = (
    *("torch", "monai", "SimpleITK", "pydicom", "highdicom", "python-gdcm", "pylibjpeg", "pylibjpeg-libjpeg"),
    *("pylibjpeg-openjpeg", "numpy", "nibabel", "isal", "lazy-loader", "scipy", "pandas", "pillow", "onnx"),
    *("onnxruntime", "openvino", "pydantic", "pyyaml", "ruamel.yaml", "rich", "psutil", "nvidia-ml-py", "openpyxl"),
    *("starlette", "uvicorn", "httpx", "jinja2", "matplotlib", "scikit-learn", "typing-extensions"),
)


def write_container(model: PackagedModel, out: Path) -> None:
    """Write everything that a container of one model is built from; equal models give equal bytes.

    Args:
        model: what is packaged.
        out: a new or empty folder.

    Raises:
        InputError: something lies there already.
        DataError: the model needs a transform of its workspace that is not there.
    """
    custom = _find_custom(model)
    with new_folder(out) as folder:
        source = Path(voxflow.__file__).parent
        shutil.copytree(source, folder / "app" / "voxflow", ignore=shutil.ignore_patterns("__pycache__", ".*"))
        _copy_model(model, folder / "models" / model.name)
        if custom is not None:
            shutil.copytree(custom, folder / "custom", ignore=shutil.ignore_patterns("__pycache__", ".*"))
        pins = pin_requirements(REQUIRED)
        write_text(folder / "requirements.txt", "".join(f"{name}=={version}\n" for name, version in pins.items()))
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        values = {"name": model.name, "tag": _name_image(model), "python": python, "torch": pins["torch"]}
        for template, name in (("Dockerfile", "Dockerfile"), ("run.py.txt", "run.py"), ("README.md", "README.md")):
            write_text(folder / name, fill_template(template, facts=_describe_model(model), **values))
        for name, manifest in _make_manifests(model).items():
            write_json(folder / name, manifest)
        _copy_texts(model, folder)


def build_image(model: PackagedModel, folder: Path, variant: str) -> str:
    """Build the image with Docker, and return its tag.

    Raises:
        MissingDependencyError: there is no Docker here.
        VoxflowError: Docker could not build it.
    """
    tag = _name_image(model) + ("-gpu" if variant == "gpu" else "")
    command = ["docker", "build", "--build-arg", f"VARIANT={variant}", "--tag", tag, str(folder)]
    if shutil.which("docker") is None:
        raise MissingDependencyError(
            f"{folder} is complete, but docker is not installed here; elsewhere: {' '.join(command)}"
        )
    if subprocess.run(command, check=False).returncode:
        raise VoxflowError(f"{folder} is complete, but docker could not build it; see its lines above")
    return tag


def pin_requirements(names: Iterable[str]) -> dict[str, str]:
    """Pin packages, and all that they need, to the versions that are installed here.

    Args:
        names: as the package registry has them.

    Returns:
        Versions by name, in order; what is not installed, as an extra that nobody asked for, is left out.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins: dict[str, str] = {}
    waiting = [(str(canonicalize_name(name)), "") for name in names]
    seen = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        # A local part, such as +cpu, is of no registry.
        pins[name] = package.version.partition("+")[0]
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(str(canonicalize_name(requirement.name)), word) for word in ("", *requirement.extras)]
    return dict(sorted(pins.items()))


def _find_custom(model: PackagedModel) -> Path | None:
    """The workspace's own transforms, where the model needs them."""
    paths = [transform.path for transform in model.spec.preprocess if transform.path]
    if not paths:
        return None
    folder = model.root / "custom" if model.root else None
    if folder is None or not folder.is_dir():
        raise DataError(f"the model needs {', '.join(paths)}, but the folder custom/ of its workspace is not there")
    return folder


def _copy_model(model: PackagedModel, folder: Path) -> None:
    folder.mkdir(parents=True)
    for engine, file in model.files.items():
        kind = get_engine_kind(engine)
        for source, target in kind.pair_files(file, folder / kind.file):
            shutil.copyfile(source, target)
    write_json(folder / "parity.json", model.parity)
    if model.calibration is not None:
        _copy_calibration(model.calibration, folder)


def _copy_calibration(file: Path, folder: Path) -> None:
    """Copy a calibration beside the model's files, unless it is of others, or is none: the service would not use it."""
    try:
        absence = read_any_calibration(file).explain_other_model(digest_exported_models([folder]))
    except DataError as error:
        absence = f"it can't be used: {error.message}"
    if absence:
        say(f"package: warning: {CALIBRATION_FILE} is left out: {absence}")
    else:
        shutil.copyfile(file, folder / CALIBRATION_FILE)


def _copy_texts(model: PackagedModel, folder: Path) -> None:
    """The model card and the licences, or what stands in for them."""
    card = model.root / "eval" / "model_card.md" if model.root else None
    if card is not None and card.is_file():
        shutil.copyfile(card, folder / "MODEL_CARD.md")
    else:
        remark = "\nThere was no model card when this was packaged; the stage `report` writes one, with the scores.\n"
        write_text(folder / "MODEL_CARD.md", f"# Model card: {model.name}\n{_describe_model(model)}{remark}")
    licence = model.root / "docs" / "license.txt" if model.root else None
    stated = (
        licence.read_text("utf-8") if licence is not None and licence.is_file() else "Not stated in its workspace.\n"
    )
    write_text(folder / "LICENCES.txt", f"Voxflow (app/): Apache License 2.0.\n\nThe model (models/):\n{stated}")


def _make_manifests(model: PackagedModel) -> dict[str, dict[str, Any]]:
    """The two manifests of a MONAI Application Package: a folder of images becomes one of masks."""
    command = f"python {APPLICATION}/run.py infer --images {WORK}/input --out {WORK}/output"
    application = {
        "apiVersion": "1.0.0",
        "type": "application",
        "command": command,
        "environment": {},
        "input": {"path": "input", "formats": [{"type": "file"}]},
        "output": {"path": "output", "format": {"type": "file"}},
        "sdk": "voxflow",
        "sdkVersion": voxflow.__version__,
        "timeout": 0,
        "version": "1.0.0",
        "workingDirectory": WORK,
    }
    package = {
        "apiVersion": "1.0.0",
        "applicationRoot": APPLICATION,
        "modelRoot": f"{APPLICATION}/models",
        "models": [{"name": model.name, "path": model.name}],
        "resources": {"cpu": 2, "gpu": 0, "memory": "8Gi"},
        "version": "1.0.0",
    }
    return {"app.json": application, "pkg.json": package}


def _describe_model(model: PackagedModel) -> str:
    """Facts as a Markdown list."""
    spec = model.spec
    facts = {
        "Task": spec.task,
        "Classes": ", ".join(spec.class_names),
        "Images": _describe_images(spec),
        "Voxel spacing in mm": ", ".join(f"{size:g}" for size in spec.spacing_mm or ()) or "as stored",
        "Engines that equal torch": ", ".join(model.files),
        "Cases that they were compared on": str(model.parity.get("cases", "unknown")),
        "Voxflow": voxflow.__version__,
    }
    return "".join(f"- {name}: {value}\n" for name, value in facts.items())


def _describe_images(spec: ModelSpec) -> str:
    words = [spec.modality or "modality not stated", *([", ".join(spec.channels)] if spec.channels else [])]
    return "; ".join(words)


def _name_image(model: PackagedModel) -> str:
    """Docker's names have small letters, digits and single marks between them."""
    return (re.sub(r"[^a-z0-9]+", "-", model.name.lower()).strip("-") or "model") + ":1"
