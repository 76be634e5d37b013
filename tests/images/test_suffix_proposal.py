"""Channels are proposed for files that differ in the ends of their names, and only where most cases have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.dicom.test_channel_cases import make_study
from tests.images.test_suffix_channels import convert, read_values, write
from voxflow.cli.main import main
from voxflow.dicom import propose_channels
from voxflow.images import list_files, propose_suffixes

if TYPE_CHECKING:
    from pathlib import Path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("names", "suffixes"),
    [
        (("a_CT", "a_pet", "b_ct", "b_pet", "c_ct"), {"CT": "_ct", "PET": "_pet"}),
        (("p1/PET", "p1/CT", "p2/ct", "p2/pet"), {"CT": "ct", "PET": "pet"}),
        (("a_0000", "a_0001", "b_0000", "b_0001"), {"channel_0": "_0000", "channel_1": "_0001"}),
        (
            ("a-flair", "a-t1", "a-t2", "a-T1CE", "b-t1", "b-t1ce", "b-t2", "b-flair"),
            {"T1": "-t1", "T1c": "-t1ce", "T2": "-t2", "FLAIR": "-flair"},
        ),
        (("a_ct", "a_pet"), None),  # a single case
        (("a_ct", "b_ct", "a_pet", "c_ct"), None),  # of few
        (("a_t1", "a_t2", "b_t1", "b_t2"), None),  # two scans, perhaps
        (("a_t1c", "a_t1ce", "b_t1c", "b_t1ce"), None),
        (("img_0000", "img_0001", "img_0002"), None),
        (("images/a", "labels/a_ct", "labels/a_pet", "labels/b_ct", "labels/b_pet"), None),
        (("a", "b", "c"), None),
    ],
)
def test_ends_that_most_cases_have_are_channels(
    tmp_path: Path, names: tuple[str, ...], suffixes: dict[str, str] | None
) -> None:
    touch(tmp_path, *names)
    proposal = propose_suffixes(tmp_path, list_files(tmp_path))
    assert (dict(proposal.suffixes) if proposal else None) == suffixes
    assert proposal is None or list(proposal.suffixes) == list(suffixes or ())


def write_source(folder: Path) -> None:
    for case in ("a", "b"):
        for number, channel in enumerate(("ct", "pet"), start=7):
            write(folder / f"images/{case}_{channel}.nii.gz", number)
    write(folder / "labels/a.nii.gz", 1)
    write(folder / "labels/b_ct_seg.nii.gz", 1)


def test_a_new_workspace_states_the_ends_and_its_cases_are_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path / "in")
    assert main(["new", "mine", "--source", "in", "--template", "auto"]) == 0
    said = capsys.readouterr().err
    assert "channels: CT (_ct), PET (_pet): 2 of 2 cases have a file for each" in said
    assert "  label files: 2 of 2 cases have one" in said
    assert "left out" not in said
    text = (tmp_path / "params.yaml").read_text()
    assert "# Which files are the channels of a case" in text
    rules = yaml.safe_load(text)["workspaces"]["mine"]["convert"]["channels"]
    assert rules == {"CT": {"suffix": "_ct"}, "PET": {"suffix": "_pet"}}
    cases, _, target = convert(tmp_path / "in", rules)
    assert [read_values(target, row) for row in cases] == [[7, 8, 1], [7, 8, 1]]


def test_rules_for_series_say_what_the_files_beside_them_end_in(tmp_path: Path) -> None:
    for number in (1, 2):
        make_study(tmp_path / "in", number)
    write_source(tmp_path / "in/files")
    proposal = propose_channels(tmp_path / "in")
    assert proposal is not None
    expected = {"CT": {"modality": "CT", "suffix": "_ct"}, "PET": {"modality": "PT", "suffix": "_pet"}}
    assert dict(proposal.rules) == expected
    assert (
        "2 cases of files beside them have the same channels, by the ends of their names: _ct, _pet"
        in proposal.lines[-2]
    )
    assert proposal.lines[-1] == "  label files: 2 of 2 cases have one"
    cases, _, _ = convert(tmp_path / "in", expected)
    assert len(cases) == 4
    without = propose_channels(tmp_path / "in", of_files=False)
    assert without is not None
    assert dict(without.rules) == {"CT": {"modality": "CT"}, "PET": {"modality": "PT"}}


@pytest.mark.parametrize("arguments", [["--template", "segmentation_ct"], ["--template", "auto", "--layout", "none"]])
def test_no_rules_where_the_template_or_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    monkeypatch.chdir(tmp_path)
    write_source(tmp_path / "in")
    assert main(["new", "mine", "--source", "in", *arguments]) == 0
    assert "suffix" not in (tmp_path / "params.yaml").read_text()
