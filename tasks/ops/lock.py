"""Write requirements.lock and requirements-torch.lock from pyproject.toml: ``make lock``.

pip-tools resolves the versions and lists the hashes of all files that the package registry has of them, for every
platform. requirements.lock takes torch from the build for the CPU that lies on this machine (pip's find-links), so its
hash stands there alone: pip prefers a file of the registry whose hash is listed, too. requirements-torch.lock has the
registry's torch, and what its build for NVIDIA GPUs needs beside: several gigabytes.

This file is run by an environment that holds pip-tools alone, so it imports the standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK, TORCH_LOCK = Path("requirements.lock"), Path("requirements-torch.lock")
HEAD = "# Exact versions of everything, made by `make lock` from pyproject.toml. Installed by `make setup`.\n"
TORCH_HEAD = (
    "# torch of the package registry, by `make lock`; `make setup` takes it where no build for the CPU is at hand.\n"
)
CUDA = re.compile(r"nvidia-(?!ml-py)|cuda-|triton$")
NOT_MACOS = re.compile(r"tensorrt-rtx-")
LINUX, NO_MACOS = ' ; sys_platform == "linux"', ' ; sys_platform != "darwin"'
ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+(?:\[[A-Za-z0-9._,-]+\])?)==(?P<version>\S+)(?: ; [^\\\n]+)? \\\n"
    r"(?P<hashes>(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)",
    re.MULTILINE,
)
HASH = re.compile(r"[0-9a-f]{64}")

Entries = dict[tuple[str, str], set[str]]


def read_entries(text: str) -> Entries:
    """Read the hashes of a lock file by name and version of the package."""
    return {(match["name"], match["version"]): set(HASH.findall(match["hashes"])) for match in ENTRY.finditer(text)}


def write_entries(entries: Entries, head: str) -> str:
    """Write a lock file, as pip reads it with ``--require-hashes``."""
    lines = [head]
    for (name, version), hashes in sorted(entries.items()):
        marker = LINUX if CUDA.match(name) else NO_MACOS if NOT_MACOS.match(name) else ""
        pin = f"{name}=={version}{marker}"
        lines.append(" \\\n".join([pin, *(f"    --hash=sha256:{text}" for text in sorted(hashes))]) + "\n")
    return "".join(lines)


def add_plain_names(entries: Entries) -> Entries:
    """Add ``name`` for each ``name[extra]``: pip 23.2 looks for the two apart, and needs a hash for both."""
    return entries | {(name.partition("[")[0], version): hashes for (name, version), hashes in entries.items()}


def split_entries(entries: Entries, local_hashes: set[str]) -> tuple[Entries, Entries]:
    """Part the files that every machine takes, with the build of torch for the CPU, from the registry's torch.

    Args:
        entries: everything, as the registry has it.
        local_hashes: of the build of torch for the CPU.
    """
    torch = {key: hashes for key, hashes in entries.items() if key[0] == "torch" or CUDA.match(key[0])}
    common = {key: hashes for key, hashes in entries.items() if key not in torch}
    return common | {key: local_hashes for key in torch if key[0] == "torch"}, torch


def resolve() -> Entries:
    """Resolve pyproject.toml with the package registry alone, whatever builds lie on this machine."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PIP_FIND_LINKS", "PIP_CONSTRAINT")
    }
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "all.lock"
        options = [
            "--quiet",
            "--generate-hashes",
            "--allow-unsafe",
            "--no-strip-extras",
            "--no-annotate",
            "--no-header",
        ]
        options += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-options", "--extra", "dev"]
        command = [
            sys.executable,
            "-m",
            "piptools",
            "compile",
            *options,
            "--output-file",
            str(target),
            "pyproject.toml",
        ]
        subprocess.run(command, env=environment | {"PIP_CONFIG_FILE": os.devnull}, check=True)
        return add_plain_names(read_entries(target.read_text(encoding="utf-8")))


def hash_local_build(version: str) -> set[str]:
    """The hash of the build of torch that pip takes from this machine; nothing where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-index", f"torch=={version}"]
        result = subprocess.run([*command, "--dest", folder], capture_output=True, check=False)
        files = list(Path(folder).iterdir()) if result.returncode == 0 else []
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> int:
    """Write both files."""
    entries = resolve()
    former = read_entries(LOCK.read_text(encoding="utf-8"))
    (torch,) = [key for key in entries if key[0] == "torch"]
    # A build on another machine was added there; it is still the same file.
    local_hashes = hash_local_build(torch[1]) | former.get(torch, set()) - entries[torch]
    if not local_hashes:
        sys.stderr.write(f"lock: error: pip has no build of torch {torch[1]} for the CPU here (--find-links)\n")
        return 2
    common, registry_torch = split_entries(entries, local_hashes)
    LOCK.write_text(write_entries(common, HEAD), encoding="utf-8")
    TORCH_LOCK.write_text(write_entries(registry_torch, TORCH_HEAD), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
