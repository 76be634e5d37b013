"""Python packages that bundles need beside MONAI: which one an import belongs to, whether it is here, how to get it.

Nothing is imported to find out; only the finders of top-level packages are asked.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import pydoc
import re
import sys
from typing import TYPE_CHECKING, Any

from voxflow.errors import MissingDependencyError, VoxflowError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What the model zoo's configurations and scripts import, where pip knows it by another name.
_PIP_NAMES = {
    "cc3d": "connected-components-3d",
    "cucim": "cucim-cu13",
    "cupy": "cupy-cuda13x",
    "cv2": "opencv-python-headless",
    "generative": "monai-generative",
    "hydra": "hydra-core",
    "ignite": "pytorch-ignite",
    "modelopt": "nvidia-modelopt",
    "nrrd": "pynrrd",
    "openslide": "openslide-python",
    "PIL": "pillow",
    "pxr": "usd-core",
    "pynvml": "nvidia-ml-py",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "vtkmodules": "vtk",
    "yaml": "pyyaml",
}
# Those that pip knows by the name of the import, with "-" for "_".
_SAME_NAMES = frozenset(
    {
        "accelerate", "acvl_utils", "albumentations", "batchgenerators", "cellpose", "clearml", "diffusers",
        "dynamic_network_architectures", "einops", "fastremap", "fire", "gdown", "h5py", "huggingface_hub",
        "imagecodecs", "itk", "jsonschema", "kornia", "large_image", "lightning", "lmdb", "lpips", "mamba_ssm",
        "matplotlib", "medpy", "mlflow", "natsort", "networkx", "nibabel", "ninja", "nni", "nnunetv2", "numba",
        "omegaconf", "onnx", "onnx_graphsurgeon", "onnxruntime", "optuna", "pandas", "peft", "plotly", "polygraphy",
        "psutil", "pyamg", "pycocotools", "pydicom", "pytorch_lightning", "pyvista", "requests", "roifile", "scipy",
        "seaborn", "segment_anything", "sentencepiece", "SimpleITK", "surface_distance", "tensorboard", "tensorboardX",
        "tensorrt", "tifffile", "timm", "torch_tensorrt", "torchaudio", "torchio", "torchmetrics", "torchvision",
        "tqdm", "transformers", "trimesh", "typeguard", "ultralytics", "vtk", "wandb", "xformers", "xgboost", "zarr",
    }
)  # fmt: skip
# Packages of no registry, with where their authors say to get them.
_ELSEWHERE = {"detectron2": "git+https://github.com/facebookresearch/detectron2.git"}
# MONAI's readers of images, by the argument `reader`, with what they import.
_READERS = {
    "cucim": "cucim",
    "itkreader": "itk",
    "nibabelreader": "nibabel",
    "nrrdreader": "nrrd",
    "openslide": "openslide",
    "pilreader": "PIL",
    "pydicomreader": "pydicom",
    "tifffile": "tifffile",
}
_PIP_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
# Without a dot, it is a class that MONAI lacks.
_NOT_LOCATED = re.compile(r"Cannot locate class or function path: '(\w+\.[\w.]+)'")


def is_installed(module: str) -> bool:
    """Whether the top-level package of a module can be imported here; it is not imported.

    Example:
        >>> is_installed("json.decoder"), is_installed("no_such_package.nets")
        (True, False)
    """
    root = module.partition(".")[0]
    if root in sys.modules:
        return True
    try:
        return importlib.util.find_spec(root) is not None
    except (ImportError, ValueError):
        return False


def has_distribution(name: str) -> bool:
    """Whether pip has installed something by this name, such as "scikit-image", or what it would be imported by."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        plain = _fold(name)
        aliases = [module for module, pip in _PIP_NAMES.items() if _fold(pip) == plain]
        # Each CUDA has a cuCIM and a CuPy of its own: cucim-cu12.
        family = re.sub(r"_cu(?:da)?\d+x?$", "", plain)
        return any(is_installed(module) for module in (*aliases, family, plain))
    return True


def _fold(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def name_install(module: str) -> str:
    """Return the line that installs the package of a module; empty for a module that nobody has listed.

    Example:
        >>> name_install("generative.networks.nets.DiffusionModelUNet")
        'pip install "monai-generative"'
        >>> name_install("strange_module")
        ''
    """
    root = module.partition(".")[0]
    name = _PIP_NAMES.get(root) or _ELSEWHERE.get(root) or (root.replace("_", "-") if root in _SAME_NAMES else "")
    return f'pip install "{name}"' if name else ""


def describe_missing(module: str) -> tuple[str, str]:
    """Say that a module's package is not installed: what is missing, and what to do.

    Example:
        >>> describe_missing("einops.layers")
        ("the package 'einops' is not installed", 'pip install "einops"')
    """
    root = module.partition(".")[0]
    install = name_install(root) or "see the bundle's README for the package that holds it"
    return f"the package {root!r} is not installed", install


def find_reader_module(reader: str) -> str:
    """Return the module that a reader of MONAI's needs and that is not installed; empty where nothing is missing.

    Example:
        >>> find_reader_module("NibabelReader")
        ''
    """
    module = _READERS.get(reader.lower(), "")
    return module if module and not is_installed(module) else ""


def check_requirements(metadata: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Find the packages that a bundle's metadata.json names and that are not installed.

    Returns:
        Id, message and what to do of each.
    """
    gaps: list[tuple[str, str, str]] = []
    for key, word in (("required_packages_version", "needs"), ("optional_packages_version", "can use")):
        packages = metadata.get(key)
        for name, version in packages.items() if isinstance(packages, dict) else ():
            if _PIP_NAME.fullmatch(str(name)) is None:
                gaps.append((key, f"{name!r} is no name of a package", ""))
            elif not has_distribution(name):
                message = f"the bundle {word} the package {name} (made with {version}), which is not installed"
                gaps.append((f"{key}#{name}", message, f'pip install "{name}"'))
    return gaps


@contextlib.contextmanager
def name_missing_packages() -> Iterator[None]:
    """Turn the failure of a bundle for want of a package into one line with what to install.

    Raises:
        MissingDependencyError: a package is not installed.
        VoxflowError: a module of the bundle could not be imported for another reason.
    """
    try:
        yield
    except Exception as error:
        missing = _find_missing(error)
        if missing:
            message, install = describe_missing(missing)
            raise MissingDependencyError(f"the bundle needs {missing}: {message}: {install}") from error
        if isinstance(error, pydoc.ErrorDuringImport):
            raise VoxflowError(f"the bundle's own code failed: {error}") from error
        raise


def _find_missing(error: BaseException) -> str:
    """The module in a chain of errors whose package is not installed; empty where there is none."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        value = following.value if isinstance(following, pydoc.ErrorDuringImport) else None
        # No context: an import that failed and was caught is no reason of what fails later.
        following = value if isinstance(value, BaseException) else following.__cause__
    names: list[str] = []
    for link in reversed(chain):
        names += [link.name] if isinstance(link, ImportError) and link.name else []
        names += _NOT_LOCATED.findall(str(link)) + _NO_MODULE.findall(str(link))
    return next((name for name in names if not is_installed(name)), "")
