"""Write or check the digests of the code that each stage can reach: ``python -m tasks.ops.digests [--check]``.

dvc.yaml lets each stage depend on its file in tasks/digests, so that DVC runs a stage again when code that it can
reach computes something else, and only then. `make lint` and every flow check that the files are those of the code.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

from tasks.ops.reach import Code
from voxflow.errors import EXIT_OK, EXIT_WRONG_INPUT, ConfigError
from voxflow.progress import say

FOLDER = Path("tasks/digests")
GRAPH = Path("dvc.yaml")
HEAD = "# The code that the stage {stage} can reach; made by `make digests`, see tasks/ops/digests.py\n"


def digest_lines(code: Code, stage: str) -> str:
    """Make the text of one stage's file: a line a module, or a file that a module reads, with its digest.

    Raises:
        ConfigError: an import leads nowhere, or the stage does not say which components it builds.
    """
    lines = []
    for module in code.reach(stage):
        lines.append(f"{module} {code.digest(module)}\n")
        for path in code.list_data(module):
            lines.append(
                f"{path.relative_to(code.root).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}\n"
            )
    return HEAD.format(stage=stage) + "".join(sorted(lines))


def write_digests(root: Path = Path()) -> list[str]:
    """Bring tasks/digests up to date with the code.

    Returns:
        The stages whose code has changed, which DVC will therefore run again.
    """
    code, folder = Code(root), root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.txt"):
        if path.stem not in code.stages:
            path.unlink()
    return [stage for stage in code.stages if _write(folder / f"{stage}.txt", digest_lines(code, stage))]


def stale_stages(root: Path = Path()) -> list[str]:
    """The stages whose file in tasks/digests is not that of the code; only files that dvc.yaml names count."""
    graph = root / GRAPH
    text = graph.read_text(encoding="utf-8") if graph.is_file() else ""
    stages = sorted(set(re.findall(rf"{FOLDER.as_posix()}/(\w+)\.txt", text)))
    code = Code(root)
    return [stage for stage in stages if _read(root / FOLDER / f"{stage}.txt") != digest_lines(code, stage)]


def check_digests(root: Path = Path()) -> None:
    """Refuse to go on with digests that are not those of the code: DVC would take old results for new ones.

    Raises:
        ConfigError: a stage's file is stale or missing.
    """
    stages = stale_stages(root)
    if stages:
        message = f"not the code's digests any more ({', '.join(stages)}); run: python -m tasks.ops.digests"
        raise ConfigError(message, path=FOLDER)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _write(path: Path, text: str) -> bool:
    """Write a file that is to change; returns whether it has."""
    if _read(path) == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


def main() -> int:
    """Write the digests, or check them, and say which stages that concerns."""
    parser = argparse.ArgumentParser(prog="python -m tasks.ops.digests", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with code 2 if a file is stale")
    is_check = parser.parse_args().check
    try:
        if is_check:
            check_digests()
            return EXIT_OK
        changed = write_digests()
    except ConfigError as error:
        say(f"digests: error: {error}")
        return EXIT_WRONG_INPUT
    say(f"digests: {', '.join(changed)} changed, DVC will run these stages again" if changed else "digests: up to date")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
