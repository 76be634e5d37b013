"""What CONTRIBUTING.md says of adding a transform and a loss is all that it takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

USE_TRANSFORM = """
import numpy as np
from voxflow.components import Component, build_transform, list_component_names

bend = build_transform(Component(name="RaiseToPower", args={"fields": ["image"], "power": 2}))
assert bend({"image": np.array([[[0.5, 2.0]]])})["image"].tolist() == [[[0.25, 1.0]]]
assert bend.reads() == ("image",)
assert "RaiseToPower" in list_component_names("transform")
"""
USE_LOSS = """
import torch
from voxflow.components import Component, create, list_component_names

loss = create("loss", Component(name="Tversky", args={"alpha": 0.3, "beta": 0.7})).build("softmax")
label = torch.tensor([[[[[0, 1, 1]]]]])
certain = 50 * torch.stack([1.0 - 2 * label[0], 2.0 * label[0] - 1], dim=1)
assert float(loss(certain, label)) < 1e-3 < 0.5 < float(loss(-certain, label))
assert "Tversky" in list_component_names("loss")
"""


def section(title: str) -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def follow(title: str, source: Path) -> Path:
    """Write what a section shows into a copy of src: a module and its line of the table; return the module."""
    text = section(title)
    code = re.search(r"```python\n(.*?)   ```", text, re.DOTALL)
    entry = re.search(r'`("voxflow\.components\.(\w+)\.(\w+)",)`', text)
    kind = re.search(r'@register\("(\w+)"\)', text)
    assert code
    assert entry
    assert kind
    line, folder, name = entry.groups()
    assert f"`{folder}/{name}.py`" in text
    components = source / "voxflow" / "components"
    module, table = components / folder / f"{name}.py", components / "sources.py"
    module.write_text(textwrap.dedent(code[1]), encoding="utf-8")
    first = f'"{kind[1]}": ('
    before, after = table.read_text(encoding="utf-8").split(first, 1)
    table.write_text(f"{before}{first}\n            {line}\n            {after}", encoding="utf-8")
    return module


def run(*command: str | Path, **environment: str) -> None:
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("title", "use"), [("Add a transform", USE_TRANSFORM), ("Add a loss", USE_LOSS)])
def test_following_the_page_adds_a_component(title: str, use: str, tmp_path: Path) -> None:
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    module = follow(title, source)
    run(sys.executable, "-c", use, PYTHONPATH=str(source))
    run(sys.executable, "-m", "ruff", "format", "--check", "--quiet", module)
    run(sys.executable, "-m", "ruff", "check", "--quiet", module)
