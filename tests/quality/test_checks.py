"""Checks name the cases that fail them; a critical one stops the work; Data Docs need no network."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from voxflow.errors import ConfigError, QualityError
from voxflow.geometry import Geometry
from voxflow.quality import (
    CheckOutcome,
    DataCheck,
    ValidateOptions,
    build_radiograph_checks,
    build_volume_checks,
    measure_cases,
    require_critical,
    require_separate_patients,
    run_checks,
    write_quality_report,
)
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from pathlib import Path

GRID = Geometry.from_parts((8, 7, 6), (1.0, 1.0, 2.5))


def add_case(folder: Path, name: str, *, image: Volume | None = None, label: Volume | None = None) -> dict[str, str]:
    """One good CT case, unless told otherwise."""
    rng = np.random.default_rng(sum(map(ord, name)))
    image = image or Volume(rng.integers(-1000, 400, GRID.size).astype(np.int16), GRID)
    label = label or Volume((np.arange(336).reshape(GRID.size) % 5 == 0).astype(np.uint8), GRID)
    write_volume(folder / f"images/{name}.nii.gz", image)
    write_volume(folder / f"labels/{name}.nii.gz", label)
    return {
        "case": name,
        "patient": name[:1],
        "modality": "CT",
        "image": f"images/{name}.nii.gz",
        "label": f"labels/{name}.nii.gz",
    }


def failures(
    folder: Path, rows: list[dict[str, str]], options: ValidateOptions | None = None
) -> dict[str, CheckOutcome]:
    measured = measure_cases(pd.DataFrame(rows), folder)
    checks = build_volume_checks(
        options or ValidateOptions(),
        sorted(set(measured["modality"])),
        [0, 1],
        has_several_images=any(";" in row["image"] for row in rows),
    )
    return {
        outcome.check.name: outcome for outcome in run_checks(measured, checks, name="cases") if not outcome.success
    }


def test_good_volumes_hold_every_check(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, "a"), add_case(tmp_path, "b"), add_case(tmp_path, "c") | {"label": ""}]
    assert failures(tmp_path, rows) == {}


def test_each_fault_is_found_at_its_case(tmp_path: Path) -> None:
    shifted = Geometry.from_parts(GRID.size, GRID.spacing, (0.0, 0.5, 0.0))
    thick = Geometry.from_parts(GRID.size, (1.0, 1.0, 30.0))
    mask = np.zeros(GRID.size, dtype=np.uint8)
    mask[0, 0, 0] = 1
    values = np.linspace(-900, 300, 336, dtype=np.float32).reshape(GRID.size)
    holed = values.copy()
    holed[1, 1, 1] = math.nan
    seven = mask * 7
    rows = [
        add_case(tmp_path, "good"),
        add_case(tmp_path, "shifted", label=Volume(mask, shifted)),
        add_case(tmp_path, "empty", label=Volume(mask * 0, GRID)),
        add_case(tmp_path, "seven", label=Volume(seven, GRID)),
        add_case(tmp_path, "thick", image=Volume(values, thick), label=Volume(mask, thick)),
        add_case(tmp_path, "holed", image=Volume(holed, GRID)),
        add_case(tmp_path, "flat", image=Volume(values * 0 - 5, GRID)),
        add_case(tmp_path, "bright", image=Volume(values + 20000, GRID)),
        add_case(tmp_path, "twin_1", image=Volume(values * 0.5, GRID)),
        add_case(tmp_path, "twin_2", image=Volume(values * 0.5, GRID)),
    ]
    failed = failures(tmp_path, rows)
    assert {name: sorted(outcome.failures) for name, outcome in failed.items()} == {
        "label lies on the image's grid": ["shifted"],
        "label is not empty": ["empty"],
        "label values are known": ["seven"],
        "spacing along k in mm": ["thick"],
        "values are finite": ["holed"],
        "image is not constant": ["flat"],
        "bright values are of the modality": ["bright"],
        "darkest value is rescaled": ["bright"],
        "pixels occur once": ["twin_1", "twin_2"],
    }
    assert failed["spacing along k in mm"].failures == {"thick": "30.0"}
    assert failed["label values are known"].failures == {"seven": "0 7"}
    critical = {name for name, outcome in failed.items() if outcome.check.severity == "critical"}
    assert critical.isdisjoint({"label is not empty", "bright values are of the modality", "darkest value is rescaled"})


def test_a_file_that_cannot_be_read_is_one_finding_only(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, "a"), add_case(tmp_path, "b"), add_case(tmp_path, "b") | {"case": "gone", "image": "x"}]
    (tmp_path / "images/b.nii.gz").write_bytes(b"not an image")
    failed = failures(tmp_path, rows)
    assert {name: sorted(outcome.failures) for name, outcome in failed.items()} == {
        "files can be read": ["b", "gone"],
    }
    assert failed["files can be read"].failures["gone"] == "file not found"


def test_nothing_readable_is_still_a_report(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no image")
    row = {"case": "a", "patient": "a", "modality": "CT", "image": "x", "label": ""}
    assert list(failures(tmp_path, [row])) == ["files can be read"]


def test_a_case_listed_twice_is_found(tmp_path: Path) -> None:
    assert set(failures(tmp_path, [add_case(tmp_path, "a")] * 2)) == {"case is listed once", "pixels occur once"}


def test_channels_of_two_grids_are_a_warning_and_the_label_lies_on_one_of_them(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, "a")]
    moved = Geometry.from_parts(GRID.size, (1.0, 1.0, 3.0))
    write_volume(tmp_path / "images/a_t2.nii.gz", Volume(np.random.default_rng(1).random(GRID.size), moved))
    rows[0]["image"] += ";images/a_t2.nii.gz"
    failed = failures(tmp_path, rows)
    assert {name: outcome.check.severity for name, outcome in failed.items()} == {"channels share one grid": "warning"}
    write_volume(tmp_path / rows[0]["label"], Volume(np.ones(GRID.size, np.uint8), moved))
    assert set(failures(tmp_path, rows)) == {"channels share one grid"}
    other = Geometry.from_parts(GRID.size, (1.0, 1.0, 4.0))
    write_volume(tmp_path / rows[0]["label"], Volume(np.ones(GRID.size, np.uint8), other))
    assert set(failures(tmp_path, rows)) == {"channels share one grid", "label lies on the image's grid"}


def test_bounds_and_severities_come_from_the_options(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, "a"), add_case(tmp_path, "b")]
    options = ValidateOptions(spacing_mm=(0.5, 2.0), intensity=(-1500, 0), warning=("spacing along k in mm",))
    failed = failures(tmp_path, rows, options)
    assert set(failed) == {"spacing along k in mm", "bright values are of the modality"}
    assert {outcome.check.severity for outcome in failed.values()} == {"warning"}


def test_a_misspelt_check_is_wrong_input_with_a_suggestion() -> None:
    options = ValidateOptions(critical=("label is empty",))
    with pytest.raises(ConfigError, match="'label is empty': did you mean 'label is not empty'"):
        build_volume_checks(options, ["CT"], [0, 1])


def test_radiographs_and_their_findings_are_checked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("a", 40), ("b", 40), ("tiny", 2)):
        write_radiograph(tmp_path / f"{name}.png", rng.integers(0, 4000, (size, 50)).astype(np.uint16))
    table = pd.DataFrame({"case": ["a", "b", "tiny"], "patient": "p", "modality": "DX", "label": ""})
    table = table.assign(image=table["case"] + ".png")
    table["finding:mass"] = [0.0, 2.0, math.nan]
    measured = measure_cases(table, tmp_path)
    outcomes = run_checks(measured, build_radiograph_checks(ValidateOptions(), ["DX"], ["mass"]), name="cases")
    assert {outcome.check.name: outcome.failures for outcome in outcomes if not outcome.success} == {
        "rows": {"tiny": "2"},
        "mass is 0 or 1": {"b": "2.0"},
    }


def test_measurements_equal_numpys(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(size=GRID.size).astype(np.float32)
    (row,) = measure_cases(pd.DataFrame([add_case(tmp_path, "a", image=Volume(values, GRID))]), tmp_path).to_dict(
        "records"
    )
    assert [row[f"spacing_{axis}"] for axis in "ijk"] == [1.0, 1.0, 2.5]
    assert [row[f"size_{axis}"] for axis in "ijk"] == [8, 7, 6]
    np.testing.assert_allclose(row["percentile_99"], np.percentile(values, 99))
    np.testing.assert_allclose(
        [row["minimum"], row["maximum"], row["deviation"]], [values.min(), values.max(), values.std()], rtol=1e-6
    )
    assert (row["label_values"], row["label_voxels"]) == ("0 1", 68)


def test_data_docs_need_no_network(tmp_path: Path) -> None:
    table = pd.DataFrame({"case": ["a", "b"], "rows": [3, 900]})
    run_checks(table, [DataCheck("rows", "rows", "range", (1, 100))], name="demo", docs=tmp_path / "docs")
    pages = list((tmp_path / "docs").rglob("*.html"))
    assert len(pages) == 3
    for page in pages:
        text = page.read_text()
        assert "http://" not in text
        assert "https://" not in text
        assert "<script" not in text
    assert "url=validations/demo/" in (tmp_path / "docs/index.html").read_text()
    (result,) = (tmp_path / "docs/validations").rglob("*.html")
    assert "900" in result.read_text()
    assert sum(path.stat().st_size for path in (tmp_path / "docs").rglob("*.*") if path.is_file()) < 200_000


def test_data_docs_draw_a_histogram_of_each_column_of_numbers_and_no_placeholder(tmp_path: Path) -> None:
    table = pd.DataFrame({"case": list("abcdef"), "rows": [3, 4, 4, 5, 9, 900], "kind": list("xxyyzz")})
    checks = [DataCheck("rows", "rows", "range", (1, 100)), DataCheck("case", "case", "unique")]
    run_checks(table, checks, name="demo", docs=tmp_path)
    (page,) = (tmp_path / "validations").rglob("*.html")
    text = page.read_text()
    assert re.findall(r'<h2[^>]*>\s*(\w+)\s*</h2><figure class="histogram"><svg', text) == ["rows"]
    for placeholder in ("Data asset: None", "Batch Markers", "ge_batch_id", "df.filter", "{{"):
        assert placeholder not in text


def test_nothing_is_left_behind_or_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_checks(pd.DataFrame({"case": ["a"], "rows": [3]}), [DataCheck("rows", "rows", "range", (1, 9))], name="demo")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_patient_in_two_parts_is_leakage() -> None:
    parts = ["training", "testing", "training", "inference"]
    table = pd.DataFrame({"case": list("abcd"), "patient": ["p", "p", "q", "q"], "part": parts})
    with pytest.raises(QualityError, match=r"leakage: patient is in one part only: p \(2\)"):
        require_separate_patients(table)
    require_separate_patients(table.iloc[1:])


def test_the_report_puts_failures_first_and_criticals_raise(tmp_path: Path) -> None:
    warning = CheckOutcome(DataCheck("w", "x", "true", severity="warning"), False, {"c": "1"})
    critical = CheckOutcome(DataCheck("size", "y", "true"), False, {f"case{n}": str(n) for n in range(7)})
    outcomes = [CheckOutcome(DataCheck("fine", "z", "true"), True), warning, critical]
    write_quality_report(tmp_path / "report.json", outcomes, cases=9)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["success"] is False
    assert [check["name"] for check in report["checks"]] == ["size", "w", "fine"]
    assert report["checks"][0]["failures"]["case3"] == "3"
    with pytest.raises(QualityError, match=r"1 critical check\(s\) failed, see .*\nsize: case0 \(0\).* and 2 more"):
        require_critical(outcomes, tmp_path / "report.json")
    require_critical(outcomes[:2], tmp_path / "report.json")
