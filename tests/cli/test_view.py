"""The command view opens what a user names, says which file is which, and lists what it can't show."""

from __future__ import annotations

import json
import re
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.tasks.demo_cases import GRID, VOLUMES, write_volumes
from tests.viewing.phantom import LEFT_ARM, draw_phantom
from voxflow.cli.main import main
from voxflow.synthetic import write_abdominal_ct
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = Path("page.html")


@pytest.fixture(autouse=True)
def _work_in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read_content() -> Mapping[str, Any]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text)
    assert found
    content: Mapping[str, Any] = json.loads(found[1])
    return content


def write_phantom(path: Path) -> Volume:
    volume = draw_phantom("RAS")
    write_volume(path, volume)
    return volume


def test_an_image_and_its_mask_are_shown_without_the_files_names(capsys: pytest.CaptureFixture[str]) -> None:
    volume = write_phantom(Path("DOE_JANE_19700101.nii.gz"))
    write_volume(Path("mask.nii.gz"), Volume((volume.array == LEFT_ARM).astype(np.uint8), volume.geometry))
    assert main(["view", "DOE_JANE_19700101.nii.gz", "--mask", "mask.nii.gz", "--out", str(PAGE)]) == 0
    assert "DOE_JANE" not in PAGE.read_text()
    assert "image 1 is DOE_JANE_19700101.nii.gz" in capsys.readouterr().err
    (case,) = read_content()["cases"]
    assert [layer["name"] for layer in case["layers"]] == ["mask"]
    assert [part["name"] for part in case["classes"]] == ["label 1"]


def test_without_out_a_browser_opens_a_page_that_only_the_user_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def note_address(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", note_address)
    write_phantom(Path("a.nii.gz"))
    assert main(["view", "a.nii.gz"]) == 0
    page = Path(opened[0].removeprefix("file://"))
    assert page.is_file()
    assert page.parent.stat().st_mode & 0o077 == 0


def test_a_folder_shows_what_it_can_and_lists_what_it_cannot(capsys: pytest.CaptureFixture[str]) -> None:
    write_phantom(Path("images/a_0000.nii.gz"))
    write_radiograph(Path("images/b.png"), np.arange(12, dtype=np.uint8).reshape(3, 4))
    Path("images/c.nii.gz").write_bytes(b"no image")
    volume = draw_phantom("RAS")
    write_volume(Path("masks/a.nii.gz"), Volume((volume.array > 0).astype(np.uint8), volume.geometry))
    assert main(["view", "images", "--mask", "masks", "--out", str(PAGE)]) == 3
    first, second = read_content()["cases"]
    assert len(first["layers"]) == 1
    assert second["facts"] == {"mask": "none is called as this image"}
    assert "1 case can't be shown" in PAGE.read_text()
    assert "image 3 can't be shown" in capsys.readouterr().err


def test_dicom_is_converted_with_the_labels_drawn_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    write_abdominal_ct(Path("dicom"), 6, 1)
    assert main(["view", "dicom", "--out", str(PAGE)]) == 3  # one series lacks a slice
    cases = read_content()["cases"]
    assert len(cases) == 6
    assert sum(bool(case["layers"]) for case in cases) == 4
    assert {part["name"] for case in cases for part in case["classes"]} == {"spleen"}
    assert all(case["channels"][0]["unit"] == "HU" for case in cases)
    assert "can't be shown" in capsys.readouterr().err
    assert not re.search(
        r"Invented|\b19\d{6}\b|1\.2\.826", re.sub(r"<script.*?</script>", "", PAGE.read_text(), flags=re.S)
    )


def test_a_folder_of_dicom_and_other_images_loses_neither_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    write_abdominal_ct(Path("both/dicom"), 6, 1)
    write_radiograph(Path("both/picture.png"), np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
    assert main(["view", "both", "--out", str(PAGE)]) == 3
    assert len(read_content()["cases"]) == 6
    assert "skipped: 1 localizer; 1 secondary capture; 1 a picture beside volumes or DICOM" in PAGE.read_text()
    assert "1 a picture beside volumes" in capsys.readouterr().err


def test_a_case_and_a_workspace_are_found_by_name() -> None:
    write_volumes(cases=3)
    Path("params.yaml").write_text("workspaces:\n  demo: {task: segmentation, source: raw}\n")
    assert main(["view", "p1_1", "--out", str(PAGE)]) == 0
    assert [case["id"] for case in read_content()["cases"]] == ["p1_1"]
    masks = Path("mmars/demo/eval/test/masks")
    for case in ("p0_1", "p1_1"):
        write_volume(masks / f"{case}.nii.gz", Volume(np.ones(GRID.size, np.uint8), GRID))
    (masks.parent / "per_case.csv").write_text("case,mean_dice\np0_1,0.9\np1_1,0.2\n")
    assert main(["view", "demo", "--out", str(PAGE)]) == 0
    content = read_content()["cases"]
    assert [case["id"] for case in content] == ["p1_1", "p0_1"]
    assert [layer["name"] for layer in content[0]["layers"]] == ["label", "prediction"]
    assert content[0]["classes"][0]["name"] == "spleen"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "is no file, no folder, no workspace and no case of one"),
        (["images", "--mask", "images/a.nii.gz"], "one mask for several images"),
        (["images/a.nii.gz", "--mask", "nothing"], "no such file"),
        (["bad.nii.gz"], "no image of it can be shown"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_phantom(Path("images/a.nii.gz"))
    write_phantom(Path("images/b.nii.gz"))
    Path("bad.nii.gz").write_bytes(b"no image")
    assert main(["view", *arguments, "--out", str(PAGE)]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_converted_folder_is_taken_as_it_is() -> None:
    write_volumes(cases=2)
    VOLUMES.rename("DOE_JANE")
    assert main(["view", "DOE_JANE", "--out", str(PAGE)]) == 0
    assert "DOE_JANE" not in PAGE.read_text()
    assert [case["id"] for case in read_content()["cases"]] == ["p0_1", "p1_1"]
