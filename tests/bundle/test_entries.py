"""Which ids of a bundle's configuration a stage enters by, and that the docs list every option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bundle.workspaces import run_configuration
from voxflow.bundle import BundleOptions
from voxflow.errors import ConfigError
from voxflow.files import write_json

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
pytestmark = pytest.mark.filterwarnings("ignore")

PAGE = Path(__file__).parents[2] / "docs/bundles.md"


def write_bundle(folder: Path, **ids: object) -> Path:
    write_json(folder / "configs/train.json", {"calls": "$list()", **ids})
    return folder


def test_a_bundle_is_entered_by_the_ids_that_the_options_name(tmp_path: Path) -> None:
    bundle = write_bundle(
        tmp_path,
        prepare=["$@calls.append('prepare')"],
        training=["$@calls.append('training')"],
        end="$@calls.append('end')",
    )
    options = BundleOptions(init_id="prepare", run_id="training", final_id="end")
    assert run_configuration(bundle, options) == ["prepare", "training", "end"]


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_a_yaml_bundle_needs_no_option(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/train").with_suffix(suffix).write_text("calls: $list()\nrun: [\"$@calls.append('yaml')\"]\n")
    assert run_configuration(tmp_path) == ["yaml"]


def test_only_what_is_run_must_be_there(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, run="$@calls.append('run')")
    assert run_configuration(bundle) == ["run"]


@pytest.mark.parametrize("name", ["trian#amp", "calls#b#c", "steps#5", "steps#x"])
def test_a_value_that_is_set_inside_of_nothing_is_refused_by_its_id(tmp_path: Path, name: str) -> None:
    bundle = write_bundle(tmp_path, steps=[1], run="$1")
    with pytest.raises(ConfigError, match=f"train.json: set: {name}: sets a value inside of what the configuration"):
        run_configuration(bundle, BundleOptions(set={name: True}))


def test_a_bundle_without_the_id_to_run_is_refused_before_it_is_built(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, initialize="$1 / 0", training="$@calls.append('training')")
    with pytest.raises(ConfigError, match="no id 'run' to run; run_id names it"):
        run_configuration(bundle)


def test_the_page_lists_every_option_and_its_default() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    meanings = {name: meaning for names, meaning in rows for name in re.findall(r"`(\w+)`", names)}
    for name, field in BundleOptions.model_fields.items():
        assert name in meanings, name
        if isinstance(field.default, str) and field.default and name not in {"trainer", "network"}:
            assert f"`{field.default}`" in meanings[name], name
