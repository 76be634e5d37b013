"""``voxflow check``: what it says, to whom, and what it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.lint.workspace import component, put, segmentation, write_files, write_images
from voxflow.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def mmar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good MMAR called "spleen"."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "spleen", segmentation())
    write_images(tmp_path / "spleen/data")
    return tmp_path / "spleen"


def break_it(mmar: Path, **changes: object) -> None:
    files = segmentation()
    for path, value in changes.items():
        put(files["config_train.json"], path.replace("__", "."), value)
    write_files(mmar, files)


def test_a_good_workspace_ends_with_0(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mmar.is_dir()
    assert main(["check", "spleen"]) == 0
    assert capsys.readouterr().out == "check spleen: nothing is wrong\n"


def test_findings_stand_below_their_file_in_whole_lines(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_it(mmar, train__loss__name="Dise", train__image_pipeline__args__output_crop_size=[16, 16, 12], epochs="6")
    assert main(["check", "spleen"]) == 2
    assert capsys.readouterr().out.splitlines() == [
        "spleen/config/config_train.json",
        "  error    train.loss.name [unknown-component]",
        "           unknown loss 'Dise'",
        "           → write 'Dice'",
        "  warning  epochs [wrong-type]",
        "           the text '6'",
        "           → write a number, without quotes",
        "  warning  train.image_pipeline.args.output_crop_size [crop-size]",
        "           [16, 16, 12], but FastCropByPosNegRatio makes [16, 16, 8]: the rest is cut off or filled with 0",
        "           → write [16, 16, 8]",
        "",
        "check spleen: 1 error, 2 warnings",
    ]


def test_warnings_alone_end_with_0(mmar: Path) -> None:
    break_it(mmar, epochs="6")
    assert main(["check", "spleen"]) == 0


def test_colours_are_for_terminals_only(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from voxflow.lint import check_workspace, render_report
    from voxflow.planning import find_target

    break_it(mmar, train__loss__name="Dise")
    main(["check", "spleen"])
    assert "\033" not in capsys.readouterr().out
    assert "\033[31merror  \033[0m" in render_report(check_workspace(find_target("spleen")), colours=True)


def test_json_holds_what_the_documentation_says(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_it(mmar, train__loss__name="Dise")
    assert main(["check", "spleen", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "workspace": "spleen",
        "ok": False,
        "errors": 1,
        "warnings": 0,
        "findings": [
            {
                "severity": "error",
                "code": "unknown-component",
                "file": "spleen/config/config_train.json",
                "path": "train.loss.name",
                "message": "unknown loss 'Dise'",
                "fix": "write 'Dice'",
            }
        ],
    }


def test_set_wins_over_environment_and_configuration(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_it(mmar, train__loss__name="Dise")
    assert main(["check", "spleen", "--set", "train.loss.name=Dice", "epochs=9"]) == 0
    assert main(["check", "spleen", "--set", "DATASET_JSON=nowhere.json"]) == 2
    assert "spleen/nowhere.json" in capsys.readouterr().out


def test_another_configuration_and_environment_can_be_named(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mmar / "config/mine.json").write_text('{"train": 3}')
    (mmar / "config/other.json").write_text('{"COLOUR": "red"}')
    assert main(["check", "spleen", "-c", "config/mine.json", "-e", "config/other.json"]) == 2
    output = capsys.readouterr().out
    assert "spleen/config/mine.json" in output
    assert "spleen/config/other.json" in output
    assert "config_train.json" not in output


def test_a_validation_configuration_alone_is_checked_as_one(mmar: Path) -> None:
    assert mmar.is_dir()
    assert main(["check", "spleen", "-c", "config/config_validation.json"]) == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["splean"], "no folder and no workspace of params.yaml is called 'splean'; did you mean 'spleen'?"),
        (["spleen", "-c", "config/no.json"], "spleen/config/no.json: file not found; -c names the configuration"),
        (["spleen", "-e", "no.json"], "spleen/no.json: file not found; -e names the environment file"),
        (["spleen", "--set", "epochs"], "--set: expected KEY=VALUE, received 'epochs'"),
        (["spleen/data"], "an MMAR has them in config/"),
    ],
)
def test_what_can_not_be_checked_is_one_line(
    mmar: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    (mmar.parent / "params.yaml").write_text("workspaces:\n  spleen: {task: segmentation}\n")
    arguments = [*arguments] if arguments[0] != "spleen" else ["./spleen", *arguments[1:]]
    assert main(["check", *arguments]) == 2
    output = capsys.readouterr().err
    assert line in output
    assert output.count("\n") == 1


def test_a_workspace_of_params_is_checked_with_its_own_values(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mmar.parent / "mmars").mkdir()
    mmar.rename(mmar.parent / "mmars/spleen")
    params = "workspaces:\n  spleen: {task: segmentation, train: {set: {train.loss.name: Dise}}}\n"
    (mmar.parent / "params.yaml").write_text(params)
    assert main(["check", "spleen"]) == 2
    output = capsys.readouterr().out
    assert "unknown loss 'Dise'" in output
    assert "the datalist is not there yet" in output
    assert "dvc repro split@spleen" in output
    assert main(["check", "mmars/spleen", "--set", "train.loss.name=Dice"]) == 0


def test_the_check_imports_nothing_heavy_and_is_quick_with_a_thousand_cases(mmar: Path) -> None:
    files = segmentation()
    for n in range(1000):
        for name in ("image", "label"):
            (mmar / f"data/more_{name}{n}.nii.gz").write_bytes((mmar / f"data/{name}0.nii.gz").read_bytes())
    cases = [{"image": f"more_image{n}.nii.gz", "label": f"more_label{n}.nii.gz"} for n in range(1000)]
    files["dataset_0.json"] |= {"training": cases[:800], "validation": cases[800:], "numTraining": 800}
    files["config_train.json"]["train"]["optimizer"] = component("Adam")
    write_files(mmar, files)
    code = (
        "import sys; from voxflow.cli.main import main; done = main(['check', 'spleen']);"
        "heavy = {'torch', 'monai', 'SimpleITK', 'pandas', 'scipy', 'nibabel', 'rich', 'mlflow'} & sys.modules.keys();"
        "sys.exit(str(heavy) if heavy else done)"
    )
    began = time.monotonic()
    process = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=mmar.parent)
    seconds = time.monotonic() - began
    assert (process.returncode, process.stderr) == (0, ""), process.stdout
    assert seconds < 10, "about half a second of processor time; the rest is a busy machine"


def check_block(mmar: Path, block: dict[str, object], capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """The findings in params.yaml, by place without the workspace: the message and the fix."""
    block = {"task": "segmentation", "source": "in", **block}
    (mmar.parent / "params.yaml").write_text(json.dumps({"workspaces": {"spleen": block}}))
    if not (mmar.parent / "mmars").exists():
        (mmar.parent / "mmars").mkdir()
        mmar.rename(mmar.parent / "mmars/spleen")
    main(["check", "spleen", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    return {
        item["path"].removeprefix("workspaces.spleen."): [item["message"], item["fix"]]
        for item in findings
        if item["file"] == "params.yaml"
    }


CHANNELS = {"CT": {"modality": "CT"}, "PET": {"modality": "PT"}}


@pytest.mark.parametrize(
    ("block", "place", "texts"),
    [
        ({"convert": {"chanels": CHANNELS}}, "convert.chanels", ["Extra inputs", "write 'channels'"]),
        (
            {"convert": {"channels": {"CT": {"modalty": "CT"}, "PET": {"modality": "PT"}}}},
            "convert.channels.CT",
            ["unknown key 'modalty'; did you mean 'modality'?", ""],
        ),
        ({"convert": {"layout": "nnunett"}}, "convert.layout", ["Input should be", "write 'nnunet'"]),
        ({"convert": {"overlap": "frist"}}, "convert.overlap", ["Input should be", "write 'first'"]),
        ({"convert": {"labels": {"tumour": 0}}}, "convert.labels.tumour", ["greater than or equal to 1", ""]),
        ({"infer": {"clean": {"fill_hole": ["all"]}}}, "infer.clean.fill_hole", ["Extra inputs", "write 'fill_holes'"]),
        ({"convert": ["CT"]}, "convert", ["valid dictionary", ""]),
        ({"split": {"testing": "datset"}}, "split.testing", ["did you mean 'dataset'?", ""]),
        (
            {"convert": {"channels": CHANNELS}, "resample": {"onto": "PTE", "spacing_mm": "auto"}},
            "resample.onto",
            ["'PTE' is no channel", "write 'PET'"],
        ),
        ({"corrections": {"absent": "emty"}}, "corrections.absent", ["Input should be", "write 'empty'"]),
        ({"corrections": {"retrain_afer": 3}}, "corrections.retrain_afer", ["Extra inputs", "write 'retrain_after'"]),
        ({"infer": {"swapped_channels": "wran"}}, "infer.swapped_channels", ["Input should be", "write 'warn'"]),
    ],
)
def test_options_of_other_stages_are_checked(
    block: dict[str, object], place: str, texts: list[str], mmar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((found_place, (message, fix)),) = check_block(mmar, block, capsys).items()
    assert (found_place, fix) == (place, texts[1])
    assert texts[0] in message


def test_a_test_part_and_a_channel_are_looked_for_in_the_cases(mmar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block: dict[str, object] = {"split": {"testing": "dataset"}, "resample": {"onto": "T1", "spacing_mm": 1}}
    assert not check_block(mmar, block, capsys)  # nobody knows yet
    volumes = mmar.parent / "data/volumes/spleen"
    volumes.mkdir(parents=True)
    table = volumes / "cases.csv"
    table.write_text("case,label,subset\na,a.nii.gz,training\nb,,testing\n")
    findings = check_block(mmar, block, capsys)
    assert findings["resample.onto"] == ["'T1' is no channel: the cases have one image", "leave it out"]
    assert findings["split.testing"][0] == "no labelled case is of the data set's own test part"
    table.write_text("case,label,subset\na,a.nii.gz,training\nb,b.nii.gz,testing\n")
    (volumes / "case_form.json").write_text('{"channels": ["T1", "T2"]}')
    assert not check_block(mmar, block, capsys)
    rules = {name: {"description": name} for name in ("T2", "T1")}
    message, fix = check_block(mmar, block | {"convert": {"channels": rules}}, capsys)["convert.channels"]
    assert message == "the order is T2, T1; the cases were converted in the order T1, T2"
    assert fix == "run dvc repro --force convert@spleen"
