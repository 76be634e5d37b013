"""A bundle's configurations are read and merged as MONAI does it, from the files that people have."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from monai.bundle import ConfigParser

from tests.bundle.workspaces import run_configuration
from voxflow.bundle import BundleTarget, check_bundle
from voxflow.bundle.reading import merge_config_files, read_config_file, use_bundle
from voxflow.errors import MissingDependencyError, VoxflowError
from voxflow.files import write_json, write_text
from voxflow.findings import FaultyConfigError, FindingCollector

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
pytestmark = pytest.mark.filterwarnings("ignore")

BASE = {"train": {"amp": False, "handlers": [1], "args": {"a": 1}}, "run": ["$1"]}
OVERRIDE = {
    "train#amp": True,
    "+train#handlers": [2, 3],
    "+train::args": {"b": 2},
    "train::handlers::0": 7,
    "+new": [1],
}


def test_files_are_merged_as_monai_merges_them_and_each_value_knows_its_file(tmp_path: Path) -> None:
    files = [tmp_path / "train.json", tmp_path / "multi_gpu_train.json"]
    write_json(files[0], BASE)
    write_json(files[1], OVERRIDE)
    findings = FindingCollector(files[0])
    merged = merge_config_files(files, findings)
    assert merged.content == ConfigParser.load_config_files([str(file) for file in files])
    names = {"train#amp": 1, "train#handlers#0": 1, "train#handlers#1": 1, "train#args#a": 0, "train#args#b": 1}
    assert {name: files.index(merged.find_file(name)) for name in names} == names
    assert [finding.line for finding in findings.findings] == [
        f"{files[1]}: new: no such id to add to; the value stands by itself"
    ]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '{"run": 1,\n "x": [1,]}', "a.json: line 2, column 10: no valid JSON: "),
        ("a.json", '{"run": 1 // no\n}', "a.json: line 1, column 11: no valid JSON: "),
        ("a.yaml", "run: 1\nx: [1\n", "a.yaml: line 3, column 1: no valid YAML: "),
        ("a.yaml", "", "a.yaml: expected named values, received nothing"),
        ("a.yaml", "1: 2", "a.yaml: expected named values, received the name 1"),
        ("a.json", "[]", "a.json: expected named values, received a list"),
        ("a.yaml", "a: &a\n  b: *a\n", "stand for more than 1,000,000 values"),
        ("a.yaml", "a: " + "[" * 1000, "of more than 100 levels of lists and objects"),
        ("a.json", '{"a": ' + "[" * 100_000, "nested too deeply, a JSON of more than 100 levels"),
        ("a.json", '{"a": ' + "[" * 101 + "]" * 101 + "}", "nested too deeply, a JSON of more than 100 levels"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "a.yaml: line 1, column 4: no valid YAML: "),
        ("a.txt", "{}", "a configuration ends in .json"),
        ("b.json", None, "b.json: file not found"),
    ],
)
def test_what_can_not_be_read_is_named_with_its_place(
    tmp_path: Path, name: str, text: str | None, expected: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(FaultyConfigError) as caught:
        read_config_file(tmp_path / name)
    assert expected in str(caught.value)


def test_a_few_lines_that_stand_for_billions_of_values_are_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    (tmp_path / "b.yaml").write_text("\n".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 99)))
    for name in ("a.yaml", "b.yaml"):
        with pytest.raises(FaultyConfigError, match="stand for more than 1,000,000 values"):
            read_config_file(tmp_path / name)


def test_a_key_that_stands_twice_is_a_warning(tmp_path: Path) -> None:
    for name, text in (("a.json", '{"lr": 1, "lr": 2}'), ("a.yaml", "lr: 1\nlr: 2\n")):
        (tmp_path / name).write_text(text)
        findings = FindingCollector(tmp_path / name)
        assert read_config_file(tmp_path / name, findings) == {"lr": 2}
        assert [finding.message for finding in findings.findings] == ["the key 'lr' stands twice; the last one counts"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"vaildate#handlers": []}, "vaildate#handlers: sets a value inside of 'vaildate', which is not there"),
        ({"trian#amp": True}, "trian#amp: sets a value inside of 'trian', which is not there; did you mean 'train'"),
        ({"train#handlers#9": 1}, "train#handlers#9: sets a value inside of 'train#handlers', which is not there"),
        ({"+train#handlers": {"a": 1}}, "train#handlers: adds a dict to a list"),
    ],
)
def test_an_override_of_what_is_not_there_names_the_file_and_the_id(
    tmp_path: Path, override: dict[str, Any], expected: str
) -> None:
    files = [tmp_path / "train.json", tmp_path / "multi_gpu_train.json"]
    write_json(files[0], BASE)
    write_json(files[1], override)
    with pytest.raises(FaultyConfigError) as caught:
        merge_config_files(files)
    assert f"{files[1]}: {expected}" in str(caught.value)


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_stage_takes_a_byte_order_mark_and_files_named_from_the_bundles_folder(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "configs").mkdir()
    config = {"calls": "%configs/common.json::calls", "run": ["$@calls.append('run')"]}
    mark = b"\xef\xbb\xbf"
    (tmp_path / "configs/train").with_suffix(suffix).write_bytes(mark + json.dumps(config).encode())
    (tmp_path / "configs/common.json").write_bytes(mark + b'{"calls": "$list()"}')
    (tmp_path / "configs/metadata.json").write_bytes(mark + b'{"version": "0.1"}')
    assert run_configuration(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("target", "script"),
    [
        ("generative.networks.nets.DiffusionModelUNet", ""),
        ("scripts_of_a.nets.Net", "import generative\n"),
        ("scripts_of_b.nets.Net", "from generative.networks.nets import DiffusionModelUNet as Net\n"),
    ],
)
def test_a_package_that_is_missing_at_run_time_is_named_with_the_pip_line(
    tmp_path: Path, target: str, script: str
) -> None:
    write_json(tmp_path / "configs/train.json", {"net": {"_target_": target}, "run": ["$@net"], "calls": []})
    if script:
        file = tmp_path / target.split(".", maxsplit=1)[0] / "nets.py"
        file.parent.mkdir()
        file.write_text(script)
    with pytest.raises(
        MissingDependencyError, match=r"'generative' is not installed: pip install \"monai-generative\""
    ):
        run_configuration(tmp_path)


@pytest.mark.parametrize(
    ("config", "script", "expected"),
    [
        ({"net": {"_target_": "UNett"}, "run": ["@net"]}, "", "Cannot locate class or function path: 'UNett'"),
        ({"net": {"_target_": "torch.optim.Adma"}, "run": ["@net"]}, "", "Cannot locate class or function path"),
        (
            {"net": {"_target_": "scripts_of_d.make"}, "run": ["@net"]},
            "def make():\n try:\n  import generative\n except ImportError:\n  raise ValueError('no size')\n",
            "ValueError: no size",
        ),
    ],
)
def test_what_fails_for_another_reason_names_no_package(
    tmp_path: Path, config: dict[str, Any], script: str, expected: str
) -> None:
    write_json(tmp_path / "configs/train.json", config)
    (tmp_path / "scripts_of_d.py").write_text(script)
    with pytest.raises(VoxflowError, match=expected) as caught:
        run_configuration(tmp_path)
    assert not isinstance(caught.value, MissingDependencyError)


def test_a_network_of_another_package_is_built_where_the_package_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import torch\nclass DiffusionModelUNet(torch.nn.Conv3d):\n    pass\n"
    write_text(tmp_path / "site/generative/networks/nets/__init__.py", code)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    network = {"_target_": "generative.networks.nets.DiffusionModelUNet", "in_channels": 1, "out_channels": 2}
    config = {"net": {**network, "kernel_size": 1}, "calls": "$list()"}
    write_json(tmp_path / "b/configs/train.json", {**config, "run": ["$@calls.append(@net.out_channels)"]})
    codes = {finding.code for finding in check_bundle(BundleTarget("b", tmp_path / "b")).findings}
    assert codes & {"missing-package", "unknown-component"} == set()
    assert run_configuration(tmp_path / "b") == [2]
    for name in [name for name in sys.modules if name.partition(".")[0] == "generative"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_network_of_monai_that_needs_a_package_names_it(tmp_path: Path) -> None:
    network = {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": 2, "feature_size": 12}
    write_json(tmp_path / "configs/train.json", {"net": network, "run": ["$@net(torch.zeros(1, 1, 32, 32, 32))"]})
    with pytest.raises(MissingDependencyError, match=r"'einops' is not installed: pip install \"einops\""):
        run_configuration(tmp_path)


def test_a_fault_of_the_bundles_own_module_is_no_missing_package(tmp_path: Path) -> None:
    write_json(tmp_path / "configs/train.json", {"net": {"_target_": "scripts_of_c.Net"}, "run": ["$@net"]})
    (tmp_path / "scripts_of_c.py").write_text("1 / 0\n")
    with pytest.raises(VoxflowError, match=r"the bundle's own code failed: .*ZeroDivisionError"):
        run_configuration(tmp_path)


def test_nothing_of_the_bundle_stays_on_the_path(tmp_path: Path) -> None:
    before, load = list(sys.path), ConfigParser.__dict__["load_config_file"]
    with use_bundle(tmp_path):
        assert sys.path[0] == str(tmp_path)
    assert (sys.path, ConfigParser.__dict__["load_config_file"]) == (before, load)
