"""Split a workspace's cases into training, validation, testing and inference, by patient."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tasks.common.case_table import read_cases
from tasks.common.stage import Stage, main
from voxflow.datalist import SplitOptions, build_datalist, list_lacking_findings, list_own_test_cases, split_cases
from voxflow.errors import EXIT_OK, join_names
from voxflow.files import atomic_directory, read_text, write_json
from voxflow.images import read_channel_rules, read_ignore, read_regions
from voxflow.progress import say
from voxflow.quality import require_separate_patients
from voxflow.texts import parse_json

if TYPE_CHECKING:
    import pandas as pd


def run(stage: Stage) -> int:
    """Write data/datalists/WS: dataset_0.json, one fold_N.json a fold, and split.csv.

    See ``voxflow.datalist.split_cases``.

    Raises:
        QualityError: a patient would be in two parts.
    """
    table = read_cases(stage.resampled / "cases.csv")
    labels: dict[str, Any] = parse_json(read_text(stage.resampled / "labels.json"))
    regions, ignore = read_regions(stage.resampled), read_ignore(stage.resampled)
    channels = read_channel_rules(stage.resampled)
    splits = split_cases(table, stage.options(SplitOptions))
    tables = [table.assign(part=table["case"].map(split)) for split in splits]
    for part_table in tables:
        require_separate_patients(part_table)
    with atomic_directory(stage.datalists) as folder:
        for number, part_table in enumerate(tables):
            name = "dataset_0.json" if number == 0 else f"fold_{number}.json"
            datalist = build_datalist(
                part_table, labels, name=stage.workspace, regions=regions, ignore=ignore, channels=channels
            )
            write_json(folder / name, datalist)
        tables[0][["case", "patient", "part"]].to_csv(folder / "split.csv", index=False)
    numbers = _count_cases(tables[0])
    write_json(stage.metrics, numbers)
    own_test_cases = list_own_test_cases(tables[0])
    if own_test_cases:
        say(f"warning: learned from although the data set keeps them for testing: {join_names(own_test_cases, 5)}")
    for line in list_lacking_findings(tables[0]):
        say(f"warning: {line}")
    counts = ", ".join(f"{count} {part}" for part, count in numbers.items() if not part.endswith("patients"))
    say(f"split {stage.workspace}: {counts} → {stage.datalists}")
    return EXIT_OK


def _count_cases(table: pd.DataFrame) -> dict[str, int]:
    parts = table.groupby("part")
    counts = {str(part): int(count) for part, count in parts.size().items()}
    return counts | {f"{part}_patients": int(count) for part, count in parts["patient"].nunique().items()}


if __name__ == "__main__":
    sys.exit(main("split", run))
