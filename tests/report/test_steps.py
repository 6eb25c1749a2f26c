"""What the picture of a history shows, and when it is drawn."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from glassrec.__main__ import main
from glassrec.artifacts import Attributions
from glassrec.report.formatting import feature_name
from glassrec.report.row_figures import attributions_of_steps, explains_steps, time_steps
from small_run import QUICK

HISTORY = torch.tensor([[0, 0, 7], [0, 8, 9], [5, 6, 7]])


def attributions(*players: str, values: torch.Tensor | None = None) -> Attributions:
    if values is None:
        values = torch.arange(3.0 * len(players)).view(3, -1)
    rows = torch.arange(3)
    return Attributions(players, values, torch.tensor([1.0, -2, 0]), torch.zeros(3), rows, {})


def test_steps_are_told_from_other_players() -> None:
    assert explains_steps(["item", "history[-1]"])
    assert explains_steps(["item[0]", "history[-1][0]"])
    assert not explains_steps(["item", "history", "my history[-1]"])


def test_steps_have_the_names_of_a_reader() -> None:
    names = [
        "history[-1]",
        "history[-3]",
        "history[-12]",
        "history[-22]",
        "price",
        "history[-1][0]",
    ]
    assert [feature_name(name) for name in names] == [
        "last item", "3rd last item", "12th last item", "22nd last item", "price", "history[-1][0]",
    ]  # fmt: skip


def test_other_players_are_left_out_and_dimensions_add_up() -> None:
    steps = attributions_of_steps(
        attributions("item", "history[-3]", "history[-2]", "history[-1]"), HISTORY
    )
    assert steps.ago == [3, 2, 1]
    assert steps.values.tolist() == [[1, 2, 3], [5, 6, 7], [9, 10, 11]]
    assert steps.real.tolist() == [[False, False, True], [False, True, True], [True] * 3]
    names = [f"history[-{ago}][{k}]" for ago in (2, 1) for k in range(2)]
    steps = attributions_of_steps(attributions("item[0]", *names, "item[1]"), HISTORY)
    assert steps.values.tolist() == [[3, 7], [15, 19], [27, 31]]
    assert steps.real.shape == (3, 2)


@pytest.mark.parametrize(
    ("length", "names"),
    [
        (3, ["3rd last", "2nd last", "last"]),
        (13, ["13th last", "", "11th last", "", "9th last", "", "7th last", "", "5th last", "",
              "3rd last", "", "last"]),
    ],
)  # fmt: skip
def test_steps_have_readable_names(length: int, names: list[str]) -> None:
    players = [f"history[-{ago}]" for ago in range(length, 0, -1)]
    found = attributions_of_steps(attributions(*players), torch.ones(3, length))
    assert found.names == names


@pytest.mark.parametrize("length", [1, 3, 40])
def test_any_length_can_be_drawn(length: int, about, drawn, told) -> None:
    players = [f"history[-{ago}]" for ago in range(length, 0, -1)]
    history = torch.ones(3, length, dtype=torch.long)
    history[:, :-1] = 0
    for values in (torch.randn(3, length), torch.zeros(3, length)):
        time_steps(attributions(*players, values=values), history, about, pd.DataFrame())
    assert "task click" in told(drawn[0])
    assert "this figure shows 3 of these rows" in told(drawn[0])


SMALL = [
    "data=planted_sequence", "data.users=40", "trainer.accelerator=cpu", "trainer.max_epochs=1",
]  # fmt: skip
LSTM = ["model=lstm", "model.embedding=4", "model.hidden=4", "model.tower=[4]"]


@pytest.mark.long
def test_a_run_draws_it_where_steps_are_players(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *SMALL, *LSTM, f"run.dir={tmp_path / 'trained'}"]) == 0
    for players, drawn in (("steps", True), ("fields", True), ("dense", None)):
        run = shutil.copytree(tmp_path / "trained", tmp_path / players)
        words = [*QUICK, f"run.dir={run}", f"explain.granularity={players}"]
        assert main(["explain", *words]) == (1 if drawn is None else 0)
        assert (run / "figures" / "time_steps.png").exists() == bool(drawn)
    assert "the model reads no such columns" in capsys.readouterr().err
    before = (tmp_path / "steps" / "neurons.parquet").read_bytes()
    assert main(["explain", f"run.dir={tmp_path / 'steps'}"]) == 0
    assert "nothing to make" in capsys.readouterr().out
    assert (tmp_path / "steps" / "neurons.parquet").read_bytes() == before


def test_a_model_without_a_history_has_no_such_picture(tmp_path: Path) -> None:
    assert main(["train", *SMALL, "model=gmf", f"run.dir={tmp_path / 'run'}"]) == 0
    assert main(["explain", *QUICK, f"run.dir={tmp_path / 'run'}"]) == 0
    assert (tmp_path / "run" / "figures" / "feature_importance.png").exists()
    assert not (tmp_path / "run" / "figures" / "time_steps.png").exists()
