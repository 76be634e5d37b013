"""nnU-Net in an environment of its own, since Voxflow does not depend on it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

# nnunetv2 and what its check of data sets and its predictor import beyond the packages of this environment, such as
# torch.
NNUNET_PACKAGES = (
    "nnunetv2==2.8.1",
    "acvl_utils==0.2.6",
    "batchgenerators==0.25.5",
    "batchgeneratorsv2==0.3.6",
    "blosc2==4.14.1",
    "connected-components-3d==4.1.1",
    "dynamic_network_architectures==0.4.4",
    "einops==0.8.2",
    "fft-conv-pytorch==1.2.0",
    "ndindex==1.10.1",
    "numexpr==2.14.2",
    "scikit-image==0.26.0",
    "seaborn==0.13.2",
    "tifffile==2026.3.3",
    "timm==1.0.31",
)


@pytest.fixture(scope="session")
def nnunet_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python that has nnunetv2: VOXFLOW_NNUNET_PYTHON, else of a new environment that borrows this one's torch."""
    if at_hand := os.environ.get("VOXFLOW_NNUNET_PYTHON"):
        return Path(at_hand)
    folder = tmp_path_factory.mktemp("nnunet")
    venv.create(folder, symlinks=True)
    python = folder / "bin/python"
    places = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", vars=places))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", *NNUNET_PACKAGES]
    result = subprocess.run([sys.executable, *install], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"nnunetv2 can't be installed: {result.stderr.strip().splitlines()[-1]}")
    return python
