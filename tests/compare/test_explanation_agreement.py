from __future__ import annotations

import json
from collections.abc import Callable
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy.stats import spearmanr

from glassrec.artifacts import AttributionFile, Attributions, Explanation
from glassrec.compare.explained_groups import group_tables
from glassrec.compare.explanation_agreement import (
    explanation_agreements,
    explanations,
    importance_finding,
)  # fmt: skip
from glassrec.compare.page_tables import setting_views
from glassrec.compare.run_comparison import MAX_DETAILED, ComparisonGroup, compare
from glassrec.compare.scan import scan

Leave = Callable[..., Path]


def _task(tmp_path: Path) -> ComparisonGroup:
    (task,) = compare(scan([tmp_path / "runs"])).groups
    return task


@pytest.fixture
def values(leave: Leave) -> dict[str, dict[str, float]]:
    """The importance of six players in five runs of two settings, with ties, in any order."""
    generator = np.random.default_rng(1)
    found = {}
    for run in range(5):
        players = generator.permutation([f"p{place}" for place in range(6)])
        found[f"r{run}"] = dict(
            zip(players, generator.integers(1, 5, 6).astype(float), strict=True)
        )
        leave(f"r{run}", seed=run, optimizer__lr=run // 3, importance=found[f"r{run}"])
    return found


def test_rank_correlations_are_spearmans(
    values: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    (found,) = explanation_agreements(_task(tmp_path))
    players = sorted(values["r0"])
    expected = np.array(
        [
            [
                spearmanr(
                    [values[a.name][p] for p in players], [values[b.name][p] for p in players]
                )[0]
                for b in found.runs
            ]
            for a in found.runs
        ]
    )
    assert found.correlation == pytest.approx(expected)
    same = np.array([[a == b for b in found.setting] for a in found.setting])
    pairs = np.triu(np.ones_like(same), 1)
    assert found.mean_correlation(same_setting=True) == pytest.approx(expected[same & pairs].mean())
    assert found.mean_correlation(same_setting=False) == pytest.approx(
        expected[~same & pairs].mean()
    )


def test_importance_is_a_share_most_important_first(
    values: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    (found,) = explanation_agreements(_task(tmp_path))
    assert found.importance.sum().to_numpy() == pytest.approx(np.ones(5))
    assert found.importance.mean(axis=1).is_monotonic_decreasing
    place = next(i for i, run in enumerate(found.runs) if run.name == "r3")
    own = values["r3"]
    assert found.importance.loc["p2"].iloc[place] == pytest.approx(own["p2"] / sum(own.values()))
    first = [place for place, setting in enumerate(found.setting) if setting == 0]
    means = found.importance.iloc[:, first].mean(axis=1).to_numpy()
    assert found.by_setting[0].to_numpy() == pytest.approx(means)


def test_runs_that_explain_other_players_are_apart(leave: Leave, tmp_path: Path) -> None:
    leave("a")
    leave("b", seed=1)
    leave("c", seed=2, importance={"history": 1.0, "item": 2.0})
    (leave("d", seed=3) / "importance.parquet").unlink()
    found = explanation_agreements(_task(tmp_path))
    assert [[run.name for run in each.runs] for each in found] == [["a", "b"], ["c"]]
    assert isnan(found[0].mean_correlation(same_setting=False))
    assert isnan(found[1].mean_correlation(same_setting=True))


def test_players_that_are_all_alike_cannot_be_ranked(leave: Leave, tmp_path: Path) -> None:
    leave("a", importance={"x": 1.0, "y": 1.0})
    leave("b", seed=1, importance={"x": 1.0, "y": 2.0})
    (found,) = explanation_agreements(_task(tmp_path))
    assert np.isnan(found.correlation[0]).all()
    assert isnan(found.mean_correlation(same_setting=True))


def test_a_run_in_which_no_player_does_anything_has_no_shares(leave: Leave, tmp_path: Path) -> None:
    leave("a", importance={"x": 0.0, "y": 0.0})
    assert explanation_agreements(_task(tmp_path)) == []


def test_only_the_best_settings_are_read(leave: Leave, tmp_path: Path) -> None:
    for lr in range(MAX_DETAILED + 1):
        leave(f"{lr}", optimizer__lr=lr, metrics={"val/auroc": 1 - lr / 100, "test/auroc": 0.5})
    (found,) = explanation_agreements(_task(tmp_path))
    assert [run.name for run in found.runs] == [f"{lr}" for lr in range(MAX_DETAILED)]


def test_only_significant_inputs_are_named_as_the_largest(leave: Leave, tmp_path: Path) -> None:
    clear, chance = (
        {"user": 0.2, "item": 0.001, "price": 0.9},
        dict.fromkeys(["user", "item", "price"], 0.3),
    )
    leave("a", q_values=clear)
    leave("b", seed=1, q_values=clear)
    leave("c", optimizer__lr=1, q_values=chance)
    leave("d", optimizer__lr=2)  # was not tested
    (found,) = explanation_agreements(_task(tmp_path))
    shares, moving = found.by_setting.T, found.significant_in_all.T
    assert importance_finding(shares.iloc[:1], moving) == "item is the largest significant input."
    said = importance_finding(shares, moving)
    assert "item in 1 of 3 settings" in said
    assert "in 2 none is significant" in said
    assert "user" not in said
    assert "No setting has a significant input" in importance_finding(shares.iloc[1:], moving)


def test_an_input_has_to_be_significant_in_every_run(leave: Leave, tmp_path: Path) -> None:
    leave("a", q_values={"user": 0.01, "item": 0.01, "price": 0.9})
    leave("b", seed=1, q_values={"user": 0.06, "item": 0.01, "price": 0.9})
    (found,) = explanation_agreements(_task(tmp_path))
    assert found.significant_in_all[0].to_dict() == {"user": False, "item": True, "price": False}


def test_an_explanation_that_is_not_trusted_is_left_out(leave: Leave, tmp_path: Path) -> None:
    leave("a")
    doubtful = Explanation("m", "n", "mean", "all", "click", 9, 0, 0, 0.5, True, None, 1, False)
    doubtful.save(leave("b", seed=1) / "explanation.json")
    (found,) = explanation_agreements(_task(tmp_path))
    assert [run.name for run in found.runs] == ["a"]


@pytest.mark.parametrize("features", [4, 5])
def test_agreement_is_shown_from_five_features_on(
    features: int, leave: Leave, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    for seed in range(2):
        leave(
            f"{seed}", seed=seed, importance={f"f{n}": generator.random() for n in range(features)}
        )
    task = _task(tmp_path)
    headings = [table.heading for table in explanations(task, setting_views(task))]
    assert ("Do the explanations agree?" in headings) == (features == 5)


@pytest.mark.parametrize("role", ["item", "user"])
def test_shares_by_frequency_are_those_of_a_plain_loop(
    role: str, leave: Leave, tmp_path: Path
) -> None:
    generator, rows = np.random.default_rng(1), 200
    keys = {"@item": generator.integers(0, 9, rows), "@user": generator.integers(0, 12, rows)}
    features = ("item", "brand", "user", "price")
    values = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(rows)
    piece = Attributions(features, values, zeros, zeros, torch.arange(rows), zeros)
    folder = leave("a")
    AttributionFile.write_piece(
        folder / "attributions.parquet", piece, {name: pa.array(key) for name, key in keys.items()}
    )
    roles = {"item": "item", "user": "user", "item_side": ["brand"]}
    (folder / "encoder.json").write_text(json.dumps({"roles": roles}))
    # Item 0 is the rarest: it has 1 row in the data, item 1 has 2, and so on.
    counts = {name: np.repeat(np.arange(n), np.arange(1, n + 1)) for name, n in
              (("item", 9), ("user", 12))}  # fmt: skip
    longest = max(map(len, counts.values()))
    frame = pd.DataFrame({n: pd.Series(each).reindex(range(longest)) for n, each in counts.items()})
    frame.to_parquet(folder / "interactions.parquet")
    task = _task(tmp_path)
    tables = {table.heading: table for table in group_tables(task, setting_views(task))}
    table = tables[f"Do the models rely on rare and frequent {role}s alike?"]
    own = {"item": [0, 1], "user": [2]}[role]
    size = {"item": 3, "user": 4}[role]
    expected = []
    for third in range(3):
        part = whole = 0.0
        for row in range(rows):
            if keys[f"@{role}"][row] // size == third:
                part += values[row, own].abs().sum().item()
                whole += values[row].abs().sum().item()
        expected.append(part / whole)
    assert [cell.value for cell in table.rows[0].cells] == pytest.approx(expected)
