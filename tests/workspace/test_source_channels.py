"""``voxflow new`` proposes channels for the series that the studies of a folder have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydicom.uid import MRImageStorage, PositronEmissionTomographyImageStorage, generate_uid

from tests.dicom.objects import Series, random_values
from tests.workspace.conftest import read_convert_block
from voxflow.cli.main import main
from voxflow.dicom import ConvertOptions, convert_folder, propose_channels
from voxflow.synthetic import write_brain_mr

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def write_study(folder: Path, number: int, series: dict[str, dict[str, Any]]) -> None:
    """One patient's study: the attributes of each series."""
    study, frame = generate_uid(), str(generate_uid())
    for n, (name, attributes) in enumerate(series.items()):
        modality = attributes.get("Modality", "MR")
        sop_class = PositronEmissionTomographyImageStorage if modality == "PT" else MRImageStorage
        changes = {"StudyInstanceUID": study, "SeriesNumber": n + 1, "SOPClassUID": sop_class} | attributes
        orientation: Any = changes.pop("orientation", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
        stored = abs(random_values((3, 4, 5), n))
        Series(stored, orientation, patient=f"P{number}", frame=frame, changes={"Modality": "MR"} | changes).write(
            folder / f"p{number}" / name
        )


def test_the_contrasts_of_brains_become_channels(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_brain_mr(root / "raw", 6, 3)
    assert main(["new", "mine", "--source", "raw", "--template", "auto"]) == 0
    said = capsys.readouterr().err
    assert "raw: DICOM, 7 studies with 27 volumes" in said
    assert "series by kind: T1 7, T1c 7, T2 7, FLAIR 6" in said
    assert "T1, T1c, T2, FLAIR: 6 of 7 studies have exactly one series for each" in said
    assert "1 study lacks FLAIR" in said
    assert "segments of its DICOM SEG overlap" in said
    block = read_convert_block(root)
    assert block["overlap"] == "regions"
    assert list(block["channels"]) == ["T1", "T1c", "T2", "FLAIR"]
    assert "# 7 studies." in (root / "params.yaml").read_text()
    options = ConvertOptions.model_validate(block | {"pseudonym_key": "key", "workers": 1, "mapping": False})
    assert convert_folder(root / "raw", root / "out", options).cases == 6


def test_ct_and_pet(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nac = {"Modality": "PT", "Units": "BQML", "SeriesDescription": "WB NAC MARKER"}
    pet = nac | {"SeriesDescription": "WB MARKER"}
    for n in range(3):
        write_study(root / "raw", n, {"ct": {"Modality": "CT"}, "pet": pet, "nac": nac})
    assert main(["new", "mine", "--source", "raw", "--template", "segmentation"]) == 0
    block = read_convert_block(root)
    assert block["modalities"] == ["CT", "MR", "PT"]
    assert block["channels"] == {
        "CT": {"modality": "CT"},
        "PET": {"modality": "PT", "not": ["nac", "uncorrected", "no ac"]},
    }
    said = capsys.readouterr().err
    assert "3 of 3 studies" in said
    assert "other PT 3" in said
    # Descriptions may hold names.
    assert "MARKER" not in said + (root / "params.yaml").read_text()


def test_a_template_of_one_modality_says_which_one_takes_more(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(2):
        write_study(root / "raw", n, {"ct": {"Modality": "CT"}, "pet": {"Modality": "PT", "Units": "BQML"}})
    assert main(["new", "mine", "--source", "raw", "--template", "segmentation_ct"]) == 0
    assert read_convert_block(root) == {"modalities": ["CT"]}
    assert "--template auto takes all of these channels" in capsys.readouterr().err


def test_the_planes_of_a_prostate_are_told_apart(tmp_path: Path) -> None:
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    adc = {"SeriesDescription": "Apparent diffusion", "ImageType": ["DERIVED", "PRIMARY", "ADC", "NORM"]}
    for n in range(3):
        t2 = {"SeriesDescription": "T2W"}
        write_study(tmp_path, n, {"t2": t2, "sag": t2 | {"orientation": sagittal}, **({"adc": adc} if n else {})})
    proposal = propose_channels(tmp_path)
    assert proposal is not None
    assert {name: dict(rule) for name, rule in proposal.rules.items()} == {
        "T2": {"modality": "MR", "plane": "axial", "description": "t2", "not": "flair"},
        "ADC": {"modality": "MR", "image_type": "ADC"},
    }
    assert proposal.matching == 2


def test_what_nobody_described_is_told_by_its_times(tmp_path: Path) -> None:
    for n in range(2):
        write_study(
            tmp_path,
            n,
            {
                "a": {"ScanningSequence": "SE", "EchoTime": 11, "RepetitionTime": 500},
                "b": {"ScanningSequence": "SE", "EchoTime": 95, "RepetitionTime": 4000},
                "c": {"ScanningSequence": ["SE", "IR"], "EchoTime": 110, "InversionTime": 2500},
            },
        )
    proposal = propose_channels(tmp_path)
    assert proposal is not None
    assert list(proposal.rules) == ["T1", "T2", "FLAIR"]
    assert proposal.matching == 2


def test_one_series_a_study_needs_no_channels(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(root / "raw", 1, {"ct": {"Modality": "CT"}})
    assert main(["new", "mine", "--source", "raw", "--template", "segmentation_ct"]) == 0
    assert read_convert_block(root) == {"modalities": ["CT"]}
    assert "channels" not in capsys.readouterr().err
