"""What is said of curves whose winner is known."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

STUDY = Path(__file__).parents[2] / "experiments" / "pruning_curves"
sys.path.insert(0, str(STUDY))  # statements over seeds belong to that study

from over_seeds import paired_comparison, pairwise_comparisons, seed_statements  # noqa: E402

SHARES = (0.0, 0.25, 0.5, 0.75)


def _frame(
    drops: dict[str, tuple[float, ...]],
    seeds: int = 3,
    noise: float = 0.0,
    ways: tuple[tuple[bool, int], ...] = ((True, 0),),
    metric: str = "test/auroc",
) -> pd.DataFrame:
    """A table in which each score loses what `drops` says at the shares above 0."""
    random = np.random.default_rng(0)
    rows = []
    for seed, (score, drop), way in product(range(seeds), drops.items(), ways):
        for draw, (share, lost) in product(
            range(3 if score == "random" else 1), zip(SHARES, (0, *drop), strict=True)
        ):
            value = 0.8 + 0.05 * seed - lost + noise * random.normal() * (share > 0)
            rows.append((seed, score, draw, share, *way, value))
    frame = pd.DataFrame(
        rows, columns=["seed", "score", "draw", "share", "folded", "epochs", metric]
    )
    return frame if seeds > 1 else frame.drop(columns="seed")


WON = {
    "conductance": (0.0, 0.01, 0.1),
    "taylor": (0.0, 0.01, 0.05),
    "magnitude": (0.0, 0.02, 0.3),
    "random": (0.1, 0.2, 0.3),
}


def test_wins_ties_and_losses_are_those_that_were_planted() -> None:
    told = seed_statements(_frame(WON), "test/auroc")
    assert told[0] == (
        "over 3 seeds conductance wins 5, ties 3 and loses 1 of 9 comparisons with other scores "
        "(3 at 3 shares; means folded)"
    )
    assert told[1] == (
        "auroc stays within 0.005 of the unpruned 0.8500 up to 25 % by conductance, taylor and "
        "magnitude, at no share by random"
    )
    assert told[2:5] == [
        "conductance against taylor: wins nowhere, ties at 25 to 50 %, loses at 75 % (by 0.0500 on "
        "average)",
        "conductance against magnitude: wins at 50 to 75 % (by 0.1050 on average), ties at 25 %, "
        "loses nowhere",
        "conductance against random: wins at every share (by 0.1633 on average), ties nowhere, "
        "loses nowhere",
    ]
    assert "less than 0.001" in told[-1]


def test_where_less_is_better_the_smaller_value_wins() -> None:
    frame = _frame({name: [-x for x in drop] for name, drop in WON.items()}, metric="test/rmse")
    assert (
        seed_statements(frame, "test/rmse")[2:5] == seed_statements(_frame(WON), "test/auroc")[2:5]
    )
    assert (
        "rmse stays within 0.005 of the unpruned 0.8500" in seed_statements(frame, "test/rmse")[1]
    )


def test_what_seeds_do_not_agree_on_is_a_tie() -> None:
    """A mean difference of .02 beside a deviation as large is not clear on three seeds."""
    frame = _frame({"conductance": (0.0, 0.0, 0.0), "zeros": (0.02, 0.02, 0.02)}, noise=0.02)
    assert set(pairwise_comparisons(frame, "test/auroc")["result"]) == {"ties"}
    clear = _frame({"conductance": (0.0, 0.0, 0.0), "zeros": (0.02, 0.02, 0.02)}, noise=1e-4)
    assert set(pairwise_comparisons(clear, "test/auroc")["result"]) == {"wins"}


def test_what_is_sure_and_too_small_to_matter_is_a_tie() -> None:
    frame = _frame({"conductance": (0.0, 0.0, 0.0), "zeros": (9e-4, 9e-4, 2e-3)})
    assert pairwise_comparisons(frame, "test/auroc")["result"].tolist() == ["ties", "ties", "wins"]


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_the_interval_is_that_of_a_paired_t_test(seeds: int) -> None:
    random = np.random.default_rng(1)
    first, then = (pd.DataFrame(random.normal(size=(4, seeds))) for _ in range(2))
    found = paired_comparison(first, then)
    differences = (first - then).to_numpy()
    error = differences.std(1, ddof=1) / seeds**0.5
    low, high = t.interval(0.95, seeds - 1, differences.mean(1), error)
    np.testing.assert_allclose(found["low"], low, atol=1e-12)
    np.testing.assert_allclose(found["high"], high, atol=1e-12)


def test_random_orders_are_averaged_before_seeds_are_paired() -> None:
    frame = _frame({"conductance": (0.0, 0.0, 0.0), "random": (0.0, 0.0, 0.0)})
    frame.loc[frame["score"] == "random", "test/auroc"] += frame["draw"].map(
        {0: -0.3, 1: 0.3, 2: 0}
    )
    found = pairwise_comparisons(frame, "test/auroc")
    np.testing.assert_allclose(found["difference"], 0, atol=1e-12)
    np.testing.assert_allclose(found["high"], 0, atol=1e-12)


def test_one_run_states_numbers_and_claims_no_win() -> None:
    told = seed_statements(_frame(WON, seeds=1), "test/auroc")
    assert told == [
        "with 50 % of each layer's neurons pruned, auroc is 0.7900 (conductance), 0.7900 (taylor), "
        "0.7800 (magnitude) and 0.6000 (random, the mean of 3 orders); unpruned it is 0.8000; a "
        "single run cannot be tested for significance",
        "auroc stays within 0.005 of the unpruned 0.8000 up to 25 % by conductance, taylor and "
        "magnitude, at no share by random",
        "conductance is better than all 3 random orders at every share",
    ]
    assert pairwise_comparisons(_frame(WON, seeds=1), "test/auroc").empty


def test_the_best_random_order_counts_in_one_run() -> None:
    frame = _frame(WON, seeds=1)
    lucky = (frame["score"] == "random") & (frame["share"] == 0.5) & (frame["draw"] == 2)
    frame.loc[lucky, "test/auroc"] = 0.7901
    (told,) = (line for line in seed_statements(frame, "test/auroc") if "random orders" in line)
    assert told == "conductance is better than all 3 random orders at 25 % and 75 %"


WAYS = ((True, 0), (False, 0), (True, 2))


@pytest.fixture
def three_ways() -> pd.DataFrame:
    """Folding is worth .03 at one half and training on .01 everywhere."""
    frame = _frame(WON, ways=WAYS)
    unfolded = ~frame["folded"] & (frame["share"] == 0.5)
    frame["test/auroc"] += 0.01 * (frame["epochs"] > 0) - 0.03 * unfolded
    return frame


def test_folding_and_training_on_are_held_against_going_without(three_ways: pd.DataFrame) -> None:
    told = seed_statements(three_ways, "test/auroc")
    assert told[5].endswith("(3 at 3 shares; zeros instead of means)")
    assert told[6].endswith("(3 at 3 shares; means folded, then 2 epochs of fine-tuning)")
    assert told[7:9] == [
        "folding means, against zeros in their place, with conductance: wins at 50 % (by 0.0300 on "
        "average), ties at 25 % and 75 %, loses nowhere",
        "2 epochs of fine-tuning, against none, with conductance: wins at every share (by 0.0100 "
        "on average), ties nowhere, loses nowhere",
    ]
    one = seed_statements(three_ways.query("seed == 0").drop(columns="seed"), "test/auroc")
    assert one[3:] == [
        "folding means, against zeros in their place, changes auroc by +0.0000 to +0.0300 with "
        "conductance",
        "2 epochs of fine-tuning, against none, changes auroc by +0.0100 to +0.0100 with "
        "conductance",
    ]


def test_the_unpruned_model_is_the_one_as_trained(three_ways: pd.DataFrame) -> None:
    assert "the unpruned 0.8500 up to" in seed_statements(three_ways, "test/auroc")[1]


def test_a_dip_ends_what_a_score_keeps() -> None:
    frame = _frame({"conductance": (0.02, 0.0, 0.0), "zeros": (0.0, 0.0, 0.02)})
    assert seed_statements(frame, "test/auroc")[1].endswith(
        "up to 50 % by zeros, at no share by conductance"
    )


def test_a_score_alone_is_compared_with_none() -> None:
    (kept, rule) = seed_statements(_frame({"zeros": (0.0, 0.02, 0.02)}), "test/auroc")
    assert kept.endswith("up to 25 % by zeros")
    assert rule.startswith("a tie: ")
    assert (
        len(seed_statements(_frame({"conductance": (0.0, 0.0, 0.0)}, seeds=1), "test/auroc")) == 2
    )
    assert pairwise_comparisons(_frame({"zeros": (0.0, 0.0, 0.0)}), "test/auroc").empty


def test_nothing_is_said_of_what_is_not_there() -> None:
    frame = _frame(WON)
    (line,) = seed_statements(frame.assign(**{"test/auroc": np.nan}), "test/auroc")
    assert line == "auroc is not defined on these rows"
    assert seed_statements(frame[frame["share"] == 0], "test/auroc") == ["nothing was pruned"]
