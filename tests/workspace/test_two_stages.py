"""Two workspaces of one segmentation in two stages, made by one command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from voxflow.cli.main import main
from voxflow.geometry import Geometry
from voxflow.lint.params import TOP_KEYS
from voxflow.volumes import Volume, write_volume


@pytest.fixture(autouse=True)
def _repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("# mine\nlimits:\nworkspaces: {}\n")
    for folder in ("imagesTr", "labelsTr"):
        for name in "ab":
            volume = Volume(np.zeros((4, 4, 4), np.uint8), Geometry.from_parts((4, 4, 4), (1, 1, 1)))
            write_volume(Path(f"images/{folder}/{name}.nii.gz"), volume)


def test_one_command_makes_both_and_says_how_they_hang_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "liver", "--source", "images", "--template", "auto", "--two-stage"]) == 0
    text = Path("params.yaml").read_text()
    params = yaml.safe_load(text)
    low, high = params["workspaces"]["liver_low"], params["workspaces"]["liver"]
    assert low["resample"] == {"spacing_mm": "auto", "most_voxels": 3538944, "orientation": "LPS"}
    assert (low["split"]["folds"], high["split"]["folds"]) == (5, 0)
    assert {key: low["split"][key] for key in ("seed", "testing", "validation")} == {
        key: high["split"][key] for key in ("seed", "testing", "validation")
    }
    assert (low["train"].get("previous"), high["train"]["previous"]) == (None, "liver_low")
    assert high["export"] == low["export"]
    assert params["previous"] == {"liver": {"workspace": "liver_low"}}
    assert len(params["folds"]) == 5
    assert set(params) <= set(TOP_KEYS)
    assert text.startswith("# mine\nlimits:\n")
    assert {path.name for path in Path("mmars").iterdir()} == {"liver", "liver_low"}
    assert main(["check", "liver"]) == 0
    Path("params.yaml").write_text(text.replace("liver: {workspace: liver_low}\n", "other: {workspace: liver_low}\n"))
    assert main(["check", "liver"]) == 2
    assert "write previous: liver: {workspace: liver_low}" in capsys.readouterr().out
    Path("params.yaml").write_text(text)
    # The second stage's folds can be switched on afterwards.
    assert main(["folds", "liver", "5"]) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("\nprevious:\n  liver: {workspace: liver_low}\n", "\nprevious: liver_low\n"), "write previous: liver: {"),
        (("      previous: liver_low\n", ""), "previous.liver names a first stage, but this key does not"),
        (("liver_low", "liver_lo"), "'liver_low' is the first stage, but previous.liver does not say so"),
        (("previous: liver_low", "previous: liver_lwo"), "write 'liver_low'"),
    ],
)
def test_what_params_say_of_one_stage_alone_is_told_before_the_first_is_trained(
    wrong: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "liver", "--source", "images", "--template", "auto", "--two-stage"]) == 0
    text, (old, new) = Path("params.yaml").read_text(), wrong
    assert old in text
    # The last place, since the first stage's name stands in many.
    head, _, tail = text.rpartition(old)
    Path("params.yaml").write_text(head + new + tail)
    assert main(["check", "liver"]) == 2
    assert message in capsys.readouterr().out


def test_other_templates_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "liver", "--source", "images", "--two-stage"]) == 2
    assert "--two-stage goes with --template auto" in capsys.readouterr().err
    assert "liver" not in Path("params.yaml").read_text()
