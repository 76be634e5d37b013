"""What conversion tells a person: reasons first, then one line of counts."""

from __future__ import annotations

from pathlib import Path

from voxflow.images import ConversionRow, ConversionSummary, ConvertedCase


def test_a_series_with_a_remedy_counts_as_converted_and_is_named() -> None:
    rows = [ConversionRow("converted"), ConversionRow("remedied"), ConversionRow("skipped")]
    (line,) = ConversionSummary.count(rows, [ConvertedCase("a_1", "a", "CT", "a.nii.gz")]).format_lines(Path("out"))
    assert line == (
        "2 of 3 series converted (1 with a remedy), 0 quarantined, 1 skipped; 1 cases of 1 patients, 0 labelled → out"
    )


def test_many_reasons_are_capped_and_the_table_named() -> None:
    summary = ConversionSummary.count([ConversionRow("quarantined", "bad", "CT")] * 12, [])
    *reasons, more, counts = summary.format_lines(Path("out"))
    assert reasons[0] == "  quarantined: series 1 (CT): bad"
    assert len(reasons) == 10
    assert more == "  and 2 more, in out/conversion.csv"
    assert counts.startswith("0 of 12 series converted, 12 quarantined")
