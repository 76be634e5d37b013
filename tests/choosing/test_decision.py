"""The rule of ``voxflow choose`` on given tables of Dice, and the words for candidates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import ttest_rel

from voxflow.choosing import Candidate, decide, parse_candidates
from voxflow.choosing.page import write_page
from voxflow.errors import ConfigError
from voxflow.evaluation import judge_gains
from voxflow.planning import SEED_NOISE

if TYPE_CHECKING:
    from pathlib import Path

Table = list[dict[str, float]]


def make_table(seed: int, gain: float = 0.0, noise: float = 0.01, folds: int = 5, cases: int = 12) -> Table:
    """Dice of as difficult cases in every table; ``gain`` and noise are the table's own."""
    difficulty = np.random.default_rng(0).uniform(0.7, 0.9, (folds, cases))
    rng = np.random.default_rng(seed)
    seeds = rng.normal(0, SEED_NOISE, (folds, 1))
    dice = difficulty + gain + seeds + rng.normal(0, noise, difficulty.shape)
    return [{f"case{f}_{n}": float(value) for n, value in enumerate(row)} for f, row in enumerate(dice)]


def test_a_better_candidate_is_chosen_with_its_numbers() -> None:
    default, better = make_table(1), make_table(2, gain=0.03)
    decision = decide({"full": default, "2d": make_table(3), "residual": better})
    assert decision.chosen == "residual"
    _, _, score = decision.candidates
    first, second = (np.array([dice for fold in table for dice in fold.values()]) for table in (default, better))
    assert (score.cases, score.is_better) == (60, True)
    assert score.dice == pytest.approx(second.mean(), abs=1e-4)
    assert score.gain == pytest.approx((second - first).mean(), abs=1e-4)
    assert score.by_fold == pytest.approx([np.mean([*fold.values()]) for fold in better], abs=1e-4)
    assert decision.reason.startswith("residual is better than full by 0.0")


def test_without_noise_of_seeds_the_test_is_the_usual_paired_one() -> None:
    pairs = np.stack([[dice for fold in make_table(n) for dice in fold.values()] for n in (1, 2)], 1)
    gain = judge_gains({"a": pairs})["a"]
    assert gain.p == pytest.approx(ttest_rel(pairs[:, 1], pairs[:, 0], alternative="greater").pvalue)
    assert judge_gains({"a": pairs}, shared_error=0.01)["a"].standard_error == pytest.approx(
        np.hypot(gain.standard_error, 0.01)
    )


def test_equal_candidates_keep_the_default_almost_always() -> None:
    chosen = [decide({"full": make_table(n), "2d": make_table(1000 + n), "residual": make_table(2000 + n)}).chosen
              for n in range(300)]  # fmt: skip
    # 2.5 % for both candidates together; three standard errors more.
    assert 1 - chosen.count("full") / 300 <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 300)


def test_the_seeds_alone_would_look_like_gains() -> None:
    """What the shared error is for: a paired test over cases takes a lucky seed for a gain far too often."""
    gains = 0
    for n in range(100):
        pair = [[dice for fold in make_table(k, noise=0.003) for dice in fold.values()] for k in (n, 1000 + n)]
        gains += judge_gains({"a": np.stack(pair, 1)})["a"].is_gain
    assert gains > 10


def test_a_worse_candidate_and_too_few_cases_keep_the_default() -> None:
    worse = decide({"full": make_table(1), "2d": make_table(2, gain=-0.1)})
    assert worse.chosen == "full"
    assert worse.reason.endswith("a loss")
    few = decide({"full": make_table(1, cases=2, folds=2), "2d": make_table(2, gain=0.2, cases=2, folds=2)})
    assert (few.chosen, few.reason) == ("full", "full stays: 4 cases can't tell, 5 are needed")


def test_the_best_of_several_better_ones_is_chosen() -> None:
    tables = {"full": make_table(1), "2d": make_table(2, gain=0.05), "residual": make_table(3, gain=0.1)}
    assert decide(tables).chosen == "residual"


def test_cases_without_a_dice_are_left_out_and_written_as_unknown(tmp_path: Path) -> None:
    default, other = make_table(1), make_table(2, gain=0.05)
    default[0]["case0_0"] = float("nan")
    decision = decide({"full": default, "2d": other})
    assert [candidate.cases for candidate in decision.candidates] == [59, 59]
    write_page(tmp_path, "liver", 10, decision, {"full": default, "2d": other})
    content = json.loads((tmp_path / "choice.json").read_text())
    assert content["chosen"] == "2d"
    assert content["cases"][0]["full"]["case0_0"] is None
    page = (tmp_path / "choice.md").read_text()
    assert "Chosen: **2d**" in page
    assert len([line for line in page.splitlines() if line.startswith("|")]) == 4


def test_candidates_are_configurations_or_values_and_the_default_comes_first() -> None:
    assert parse_candidates(["residual", "full"]) == (Candidate("full"), Candidate("residual", "residual"))
    assert parse_candidates(['slow={"learning_rate": 0.001}'])[1] == Candidate("slow", "full", {"learning_rate": 0.001})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["3d"], "no configuration '3d'"),
        (["residal"], "did you mean 'residual'"),
        (["full"], "name a candidate to compare with full: 2d, residual, or NAME=JSON"),
        (["2d", "2d"], "candidate '2d' is there twice"),
        (["2d={}"], "'2d' can't name a candidate"),
        (["a/b={}"], "'a/b' can't name a candidate"),
        (["wide={"], "candidate 'wide': '{' is no JSON"),
        (["wide=[1]"], "candidate 'wide': expected a JSON object"),
        (["wide={}"], "candidate 'wide': expected a JSON object"),
    ],
)
def test_other_words_are_one_line(words: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_candidates(words)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
