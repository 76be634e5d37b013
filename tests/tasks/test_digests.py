"""DVC runs a stage again when code that it can reach computes something else, and for nothing else."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.ops import digests
from tasks.ops.digests import FOLDER, check_digests, stale_stages, write_digests
from tasks.ops.normal_form import digest_code
from tasks.ops.reach import CHANGES_NOTHING, CHANGES_NOTHING_IN, DATA, KINDS, SOURCES, Code
from tests.dag.repository import Repository
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted(path for folder in ("src", "tasks") for path in (ROOT / folder).rglob("*.py"))
CHANGE = "\nCHANGED = True\n"
CODE = Code(ROOT)
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # pygtrie, which DVC uses

MODULE = """
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

def read(path: "Path", unit: str = "mm") -> int:
    if not os.path.exists(path):
        reason = f"{path} is not there"
        reason += ", and was never"
        raise FileNotFoundError(reason + "!")
    logger.warning("reading %s", path)
    say(f"reads {len(path):>5} in {unit}")
    return {"mm": 1, "cm": 10}[unit]
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import os\n", "# A comment.\nimport os  # another\n"),
        ("    if not os", '    """Read a file."""\n    if not os'),
        ("    if not os", "\n\n    if  not os"),
        ("import os\nfrom typing import TYPE_CHECKING", "from typing import TYPE_CHECKING\nimport os"),
        ("    from pathlib import Path", "    from pathlib import Path, PurePath"),
        ("is not there", "is missing"),
        (", and was never", ""),
        ("!", "?"),
        ("reading %s", "now at %s"),
        ("reads {len(path):>5} in {unit}", "{len(path)} of {unit}"),
    ],
)
def test_what_changes_no_result_changes_no_digest(old: str, new: str) -> None:
    assert old in MODULE
    assert digest_code(MODULE.replace(old, new, 1)) == digest_code(MODULE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"cm": 10', '"cm": 100'),
        ('"mm": 1,', '"m": 1,'),
        ("if not os", "if os"),
        ('unit: str = "mm"', 'unit: str = "cm"'),
        ("import os\n", "import os\nimport sys\n"),
        ("in {unit}", "in {path}"),
        ("FileNotFoundError", "ValueError"),
    ],
)
def test_what_may_change_a_result_changes_the_digest(old: str, new: str) -> None:
    assert old in MODULE
    assert digest_code(MODULE.replace(old, new, 1)) != digest_code(MODULE)


@pytest.mark.parametrize(
    "module",
    [
        "def f(x):\n    word = 'old'\n    say(word)\n    return word\n",
        "def f():\n    global word\n    word = 'old'\n    say(word)\n",
        "def f():\n    word = 1\n    def g():\n        nonlocal word\n        word = 'old'\n    return word, g()\n",
        "def f():\n    class Part:\n        name = 'old'\n    return Part\n",
        "def f(path):\n    name = read(path, 'old')\n    say(name)\n",
    ],
)
def test_a_text_that_is_more_than_a_message_counts(module: str) -> None:
    assert digest_code(module.replace("old", "new")) != digest_code(module)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_of_any_module_counts(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    changed = with_other_docstrings(source)
    assert "Other words." in changed
    assert digest_code(changed) == digest_code(source)


def with_other_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = ast.Expr(ast.Constant("Other words."))
            has_docstring = ast.get_docstring(node) is not None
            node.body = [words, *(node.body[1:] if has_docstring else node.body)]
    return ast.unparse(ast.fix_missing_locations(tree))


def test_an_import_through_a_door_reaches_one_module() -> None:
    assert CODE.find_home("voxflow.volumes", "read_volume") == "voxflow.volumes.files"
    assert CODE.find_home("numpy", "ndarray") is None
    with pytest.raises(ConfigError, match=r"voxflow\.volumes offers no 'nothing'"):
        CODE.find_home("voxflow.volumes", "nothing")


def test_a_package_that_is_imported_itself_reaches_all_that_it_offers(tmp_path: Path) -> None:
    package = tmp_path / "src/voxflow/scores"
    package.mkdir(parents=True)
    for name, text in (("__init__.py", ""), ("__init__.pyi", "from .dice import dice as dice\n"), ("dice.py", "")):
        (package / name).write_text(text)
    (package.parent / "__init__.py").write_text("")
    (tmp_path / "tasks").mkdir()
    for name, line in (
        ("one", "from voxflow import scores"),
        ("two", "import voxflow.scores"),
        ("three", "import voxflow"),
    ):
        (tmp_path / f"tasks/{name}.py").write_text(line)
    (tmp_path / "tasks/__init__.py").write_text("")
    reached = {stage: "voxflow.scores.dice" in Code(tmp_path).reach(stage) for stage in Code(tmp_path).stages}
    assert reached == {"one": True, "two": True, "three": False}


def test_tables_name_what_there_is() -> None:
    named = {*CHANGES_NOTHING, *DATA, *(name for names in CHANGES_NOTHING_IN.values() for name in names)}
    assert [name for name in named if CODE.find_file(name) is None] == []
    assert [name for name in DATA if not CODE.list_data(name)] == []
    assert set(KINDS) == {stage for stage in CODE.stages if SOURCES in CODE.reach(stage)}


def looks_up_by_name(source: str) -> bool:
    """Whether a module imports what it computes the name of, or reads files beside itself."""
    for node in ast.walk(ast.parse(source.replace("attach_stub(__name__, __file__)", "attach_stub()"))):
        if isinstance(node, ast.Name) and node.id in {"__file__", "__import__", "PackageLoader"}:
            return True
        is_import = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
        if isinstance(node, ast.Call) and is_import and not isinstance(node.args[0], ast.Constant):
            return True
    return False


def test_every_module_that_imports_or_reads_by_a_name_is_known() -> None:
    """Each of these was looked at: what it finds is in a table of tasks/ops/reach.py, or is no code of a stage."""
    files = {name: CODE.find_file(name) for stage in CODE.stages for name in CODE.reach(stage)}
    dynamic = {name for name, path in files.items() if path and looks_up_by_name(path.read_text(encoding="utf-8"))}
    assert dynamic <= {
        "tasks",  # the folder of the operators' programs
        "voxflow.cluster_work",  # the digest of all code, which the machines of a cluster compare
        "voxflow.components.custom.code",  # a workspace's own classes
        "voxflow.components.monai.names",  # MONAI's classes
        "voxflow.components.registry",  # KINDS
        "voxflow.components.custom.creating",  # KINDS
        "voxflow.components.networks.base",  # the files of torch modules, for a bundle that takes them along
        "voxflow.inference.ledger",  # the digest of all code, by which inference knows its results again
        "voxflow.reporting.rendering",  # DATA
        "voxflow.training.cache",  # the digest of transforms, by which cached patches are known again
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A copy of this repository in which DVC takes every stage for done; nothing was run."""
    from dvc.repo import Repo

    copy = Repository.copy_to(tmp_path_factory.mktemp("repository"))
    write_digests(copy.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copy.root)
        with Repo() as dvc:
            for stage in dvc.index.stages:
                for output in stage.outs:
                    write_something(Path(output.fs_path))
            dvc.commit(force=True)
        yield copy


def write_something(path: Path) -> None:
    """What a stage may have left: a file, or a folder with the files that others depend on."""
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
        return
    path.mkdir(parents=True, exist_ok=True)
    for name in ("run.json", "report.json", "dataset_0.json", "trust.json"):
        (path / name).write_text(path.name)


def stages_to_run(repository: Repository) -> set[str]:
    """The stages that DVC would run again for themselves; what follows these depends on what they make."""
    from dvc.repo import Repo

    write_digests(repository.root)
    with Repo() as dvc:
        return {address.partition("@")[0] for address in dvc.status()}


@contextlib.contextmanager
def changed(repository: Repository, file: str) -> Iterator[None]:
    """Let a file compute something else for the length of the block."""
    path = repository.root / file
    files = {path, *(repository.root / FOLDER).glob("*.txt")}
    before = {name: name.read_text(encoding="utf-8") for name in files}
    path.write_text(before[path] + CHANGE, encoding="utf-8")
    try:
        yield
    finally:
        for name, text in before.items():
            name.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("src/voxflow/dicom/series.py", {"convert"}),
        ("src/voxflow/components/writers.py", set()),
        ("src/voxflow/training/loop.py", {"train"}),
        ("src/voxflow/lint/sizes.py", set()),
        ("src/voxflow/config/load.py", {"train"}),
        ("src/voxflow/reporting/templates/compare.html.j2", {"report"}),
        ("tasks/train.py", {"train"}),
        ("tasks/ops/ingest.py", set()),
    ],
)
def test_a_change_of_code_changes_the_digests_of_stages_that_reach_it(
    repository: Repository, file: str, stages: set[str]
) -> None:
    with changed(repository, file):
        assert set(write_digests(repository.root)) == stages


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("src/voxflow/components/losses/base.py", {"train"}),
        ("src/voxflow/components/transforms/saving.py", {"export", "evaluate", "infer"}),
    ],
)
def test_dvc_runs_what_a_change_reaches(repository: Repository, file: str, stages: set[str]) -> None:
    with changed(repository, file):
        assert stages_to_run(repository) == stages


def with_other_messages(source: str) -> str:
    return re.sub(r'(raise \w+|say|logger\.warning)\((f?)"', r'\1(\2"Other words: ', source)


@pytest.mark.parametrize("change", [with_other_docstrings, with_other_messages])
def test_dvc_runs_nothing_for_other_words(repository: Repository, change: Callable[[str], str]) -> None:
    before = {path: path.read_text(encoding="utf-8") for path in (repository.root / "src/voxflow").rglob("*.py")}
    changed = {path: change(source) for path, source in before.items()}
    assert sum(changed[path] != before[path] for path in before) > 50
    for path, source in changed.items():
        path.write_text(source, encoding="utf-8")
    try:
        assert stages_to_run(repository) == set()
    finally:
        for path, source in before.items():
            path.write_text(source, encoding="utf-8")


def test_stale_digests_are_refused_in_one_line(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["digests", "--check"])
    with changed(repository, "tasks/train.py"):
        assert stale_stages() == ["train"]
        assert digests.main() == 2
        monkeypatch.setattr(sys, "argv", ["digests"])
        assert digests.main() == 0
        assert capsys.readouterr().err.splitlines() == [
            f"digests: error: {FOLDER}: not the code's digests any more (train); run: python -m tasks.ops.digests",
            "digests: train changed, DVC will run these stages again",
        ]
        check_digests()


def test_where_dvc_yaml_names_no_digest_nothing_is_checked(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    check_digests(tmp_path)
