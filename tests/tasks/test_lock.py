"""The lock files pin everything that pyproject.toml names, with hashes; pip can install from them alone."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tasks.ops import lock

ROOT = Path(__file__).resolve().parents[2]


def read_file(path: Path) -> lock.Entries:
    return lock.read_entries((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [lock.LOCK, lock.TORCH_LOCK], ids=str)
def test_every_line_is_a_pin_or_a_hash(path: Path) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    entries = read_file(path)
    head = lock.HEAD if path == lock.LOCK else lock.TORCH_HEAD
    assert lock.write_entries(entries, head) == text
    assert all(entries.values())
    assert lock.add_plain_names(entries) == entries
    assert not re.search(r"://|--(index|extra|find)|@ ", text)


def test_what_pyproject_names_is_pinned_as_it_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        text
        for name in project["optional-dependencies"]
        if name != "tensorrt"
        for text in project["optional-dependencies"][name]
    ]
    pins = {name.partition("[")[0]: version for name, version in read_file(lock.LOCK)}
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        if requirement.name != "voxflow":
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_the_registrys_torch_is_in_a_file_of_its_own() -> None:
    common, torch = read_file(lock.LOCK), read_file(lock.TORCH_LOCK)
    assert not [name for name, _ in common if lock.CUDA.match(name)]
    assert {"nvidia-cublas", "triton", "torch"} <= {name for name, _ in torch}
    (key,) = common.keys() & torch.keys()
    # With a hash of the registry beside it, pip would not take the build that is at hand.
    assert not common[key] & torch[key]
    entries = {("nvidia-cublas", "1"): {"a"}, ("torch", "2"): {"b"}, ("tritonclient", "3"): {"c"}}
    common, torch = lock.split_entries(entries, {"d"})
    assert common == {("torch", "2"): {"d"}, ("tritonclient", "3"): {"c"}}
    assert torch == {("nvidia-cublas", "1"): {"a"}, ("torch", "2"): {"b"}}


def test_the_build_of_torch_on_this_machine_is_the_one_of_the_lock() -> None:
    (version,) = [version for name, version in read_file(lock.LOCK) if name == "torch"]
    local = lock.hash_local_build(version)
    if not local:
        pytest.skip("pip has no build of torch on this machine")
    assert local <= read_file(lock.LOCK)[("torch", version)]


def test_pip_takes_only_the_very_files(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "files")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for name, text in (("right", digest), ("wrong", "0" * 64)):
        (tmp_path / f"{name}.lock").write_text(lock.write_entries({("thing", "1.0"): {text, "1" * 64}}, lock.HEAD))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "--require-hashes"]
    command += ["--find-links", str(wheel.parent), "--requirement"]
    results = {
        name: subprocess.run([*command, str(tmp_path / f"{name}.lock")], capture_output=True, text=True, check=False)
        for name in ("right", "wrong")
    }
    assert results["right"].returncode == 0, results["right"].stderr
    assert results["wrong"].returncode != 0
    assert "DO NOT MATCH THE HASHES" in results["wrong"].stderr


def write_wheel(folder: Path) -> Path:
    """A package of one empty module."""
    import zipfile

    folder.mkdir()
    path = folder / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing.py", "")
        archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "thing.py,,\n")
    return path
