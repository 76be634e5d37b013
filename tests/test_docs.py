"""What the documentation names exists: modules, programs, commands, stages, files, links and headings."""

import ast
import importlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from voxflow.cli.main import COMMANDS
from voxflow.corrections import CorrectionOptions
from voxflow.dicom import ConvertOptions
from voxflow.drift import MonitorOptions
from voxflow.evaluation import EvaluateOptions
from voxflow.export import ExportOptions
from voxflow.inference import InferOptions
from voxflow.pacs import AnswerOptions, IngestOptions
from voxflow.promotion import PromoteOptions
from voxflow.quality import ValidateOptions
from voxflow.training import TrainOptions
from voxflow.volumes import ResampleOptions

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("mmars/*/docs/*.md")])

# Files that a page names by a repository's path, but that belong to another folder or come into being by a command.
GENERATED = {
    "docs/migration.json",  # of a bundle that `voxflow migrate` writes
    "docs/README.md",
    "docs/index.html",  # of Great Expectations' Data Docs
    "tasks/digests/STAGE.txt",  # one for each stage
    "src/voxflow/engines/reference.py",  # what the reader of CONTRIBUTING.md writes
}
OPTIONS: dict[str, type[BaseModel]] = {
    "answer": AnswerOptions,
    "convert": ConvertOptions,
    "corrections": CorrectionOptions,
    "evaluate": EvaluateOptions,
    "export": ExportOptions,
    "infer": InferOptions,
    "ingest": IngestOptions,
    "monitor": MonitorOptions,
    "promote": PromoteOptions,
    "resample": ResampleOptions,
    "train": TrainOptions,
    "validate": ValidateOptions,
}
FOLDERS = r"(?:src|tasks|flows|tests|docs|benchmarks|deploy|mmars/[a-z]+_demo/config)"


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    """One page of the documentation."""
    assert isinstance(request.param, Path)
    return request.param


def test_modules_and_names_of_the_library_can_be_imported(page: Path) -> None:
    names = [code for code in find_inline_code(page) if re.fullmatch(r"(voxflow|tasks|flows|benchmarks)(\.\w+)+", code)]
    names += [name for name in find_imports(page) if name.startswith("voxflow")]
    assert [name for name in names if not is_importable(name)] == []


def test_programs_that_are_started_by_module_exist(page: Path) -> None:
    programs = re.findall(
        r"-m ((?:tasks|flows|benchmarks|nvmidl|medl)(?:\.[a-z_]\w*)*)(?![.\w])", page.read_text("utf-8")
    )
    assert [program for program in programs if find_spec(program) is None] == []


def test_commands_exist(page: Path) -> None:
    names = {command.name for command in COMMANDS}
    calls = re.findall(r"(?:^|[`$] ?)voxflow ([a-z]+)\b", page.read_text("utf-8"), re.MULTILINE)
    assert set(calls) <= names


def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    calls = re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text("utf-8"), re.MULTILINE)
    assert set(calls) <= targets


def test_stages_exist(page: Path) -> None:
    stages = set(yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"])
    calls = re.findall(r"dvc repro (?:--[a-z-]+ )*([a-z_]+)@", page.read_text("utf-8"))
    assert set(calls) <= stages


def test_settings_of_examples_are_valid(page: Path) -> None:
    for settings in find_settings(page):
        for stage, model in OPTIONS.items():
            if stage in settings:
                model.model_validate(settings[stage])


@pytest.mark.parametrize(("heading", "model"), [("Options", ConvertOptions), ("Resampling", ResampleOptions)])
def test_the_tables_of_options_name_every_option(heading: str, model: type[BaseModel]) -> None:
    _, _, section = (ROOT / "docs/conversion.md").read_text("utf-8").partition(f"\n## {heading}\n")
    names = re.findall(r"^\| `([a-z_]+)` \|", section.partition("\n## ")[0], re.MULTILINE)
    assert sorted(names) == sorted(model.model_fields)


def test_files_of_the_repository_exist(page: Path) -> None:
    paths = [code for code in find_inline_code(page) if re.fullmatch(FOLDERS + r"/[\w./-]*", code)]
    assert [path for path in paths if path not in GENERATED and not (ROOT / path).exists()] == []


def test_links_lead_to_files_and_headings(page: Path) -> None:
    for address in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in address or address.startswith("mailto:"):
            continue
        path, _, anchor = address.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {address}"
        assert not anchor or anchor in find_anchors(target), f"{page.name} links to {address}"


def test_code_within_a_sentence_stands_on_one_line(page: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if line.count("`") % 2] == []


def find_inline_code(page: Path) -> list[str]:
    """Find what stands between single backticks outside of blocks of code."""
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def find_settings(page: Path) -> Iterator[dict[str, Any]]:
    """Find the settings of stages that the page's examples of params.yaml hold, by stage; not those of bundles."""
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        content = yaml.safe_load(block)
        for settings in [content, *content.get("workspaces", {}).values()]:
            if settings.get("kind") != "bundle":
                yield settings


def find_imports(page: Path) -> Iterator[str]:
    """Find what the page's Python examples import, each as the full name of a module or of what is in it."""
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)


def is_importable(name: str) -> bool:
    """Tell whether a dotted name is a module, or something that a module holds."""
    if find_module(name):
        return True
    module, _, attribute = name.rpartition(".")
    return find_module(module) and hasattr(importlib.import_module(module), attribute)


def find_module(name: str) -> bool:
    """Tell whether a module of this name exists."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def find_anchors(page: Path) -> set[str]:
    """List a page's headings as GitHub writes them behind the ``#`` of a link."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
