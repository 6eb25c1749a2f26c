"""The command recommend: its lists are those of every item scored by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from raw_clicks import HISTORY, FinishedRun

from glassrec.__main__ import main
from glassrec.data.columns import Part
from glassrec.data.events import step_names
from glassrec.data.schema import Target
from glassrec.inference.list_inputs import CandidateItems, UserRows, with_context
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.ranking import Ranker, best
from glassrec.inference.row_files import Place
from glassrec.models.two_tower import TwoTower

CONTEXT = ["city", "device", "age", "views"]


def recommend(run: FinishedRun, *words: str) -> int:
    return main(["recommend", f"run.dir={run.directory}", *words])


def lists(run: FinishedRun, folder: Path, *words: str) -> pd.DataFrame:
    assert recommend(run, f"out={folder / 'lists.csv'}", *words) == 0
    return pd.read_csv(folder / "lists.csv", keep_default_na=False)


def by_hand(
    run: FinishedRun,
    opened: OpenedRun,
    user: str,
    *,
    past: Sequence[str] | None = None,
    **context: object,
) -> pd.Series:
    """The logit of every item that training knew, best first, from the log alone."""
    log = run.log
    items = log[~log["sku"].duplicated()].set_index("sku")
    known = opened.encoder.vocabularies["sku"].values
    own = log[log["user_id"] == user]
    frame = items.loc[known, ["brand", "tags", "price"]].reset_index(names="sku")
    last = own.iloc[-1][CONTEXT].to_dict() if len(own) else {}
    frame = frame.assign(user_id=user, **(last | context))
    frame["age"] = pd.to_numeric(frame["age"], errors="coerce")
    steps = [*[None] * HISTORY, *(own["sku"] if past is None else past)][-HISTORY:]
    for name, item in zip(step_names(HISTORY), steps, strict=True):
        frame[name] = item
    batch = opened.encoder.encode(Part(frame, np.zeros((len(frame), 1)))).batch
    with torch.no_grad():
        logits = opened.model(batch)[:, 0].double()
    return pd.Series(logits.numpy(), known).sort_values(ascending=False, kind="stable")


def check(found: pd.DataFrame, expected: pd.Series, k: int) -> None:
    expected = expected.iloc[:k]
    assert found["rank"].tolist() == [*range(1, 1 + len(expected))]
    assert abs(found["logit"].to_numpy() - expected.to_numpy()).max() < 1e-6
    assert abs(expected.loc[found["item"]].to_numpy() - expected.to_numpy()).max() < 1e-6


@pytest.mark.parametrize("model", ["dlrm", "lstm"])
def test_lists_are_those_of_all_items_scored_by_hand(
    model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name, opened_name = {
        "dlrm": ("finished", "opened"),
        "lstm": ("sequential", "opened_sequence"),
    }[model]
    run: FinishedRun = request.getfixturevalue(name)
    opened: OpenedRun = request.getfixturevalue(opened_name)
    found = lists(run, tmp_path, "users=all", "seen=keep", "k=7", "reasons=2", "chunk=50")
    users = run.log["user_id"].unique()
    assert found["user"].unique().tolist() == users.tolist()
    assert len(found) == 7 * len(users)
    for user in users[:8]:
        check(found[found["user"] == user], by_hand(run, opened, user), 7)
    titles = run.log.drop_duplicates("sku").set_index("sku")["title"]
    assert found["name"].tolist() == titles.loc[found["item"]].tolist()
    assert found["reason_1"].str.contains(" = .*: [+−]").all()


def test_seen_items_are_left_out(
    finished: FinishedRun, opened: OpenedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = finished.log
    for user in log["user_id"].unique()[:4]:
        own, everything = log[log["user_id"] == user], by_hand(finished, opened, user)
        for seen, rows in (("drop", own), ("drop_taken", own[own["clicked"] == 1])):
            left = everything.drop(rows["sku"], errors="ignore")
            assert len(left) < len(everything)
            found = lists(finished, tmp_path, f"user={user}", f"seen={seen}", "k=100")
            check(found, left, 100)
            assert len(found) == len(left)
            assert "1 list shorter than k=100; seen=" in capsys.readouterr().out


def test_context_is_given_or_that_of_the_last_row(
    finished: FinishedRun, opened: OpenedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = finished.log["user_id"].iloc[0]
    words = (f"user={user}", "seen=keep", "context.city=Łódź", "context.views=1")
    found = lists(finished, tmp_path, *words)
    check(found, by_hand(finished, opened, user, city="Łódź", views=1.0), 10)
    last = finished.log[finished.log["user_id"] == user].iloc[-1]
    expected = f"city = Łódź; device = {last['device']}; age = {last['age'] or '(missing)'}"
    assert found["context"].unique().tolist() == [f"{expected}; views = 1"]
    assert "context: city and views as given; device and age from" in capsys.readouterr().out


def test_unseen_users(
    finished: FinishedRun, opened: OpenedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(finished, "user=nobody", "context.city=Paris") == 1
    printed = capsys.readouterr().err
    assert "'nobody'" in printed
    assert "context.device=VALUE, context.age=VALUE and context.views=VALUE" in printed
    new = {"city": "Oz", "device": "phone", "age": "", "views": "20"}
    found = lists(finished, tmp_path, "user=nobody", *(f"context.{k}={v}" for k, v in new.items()))
    check(found, by_hand(finished, opened, "nobody", **(new | {"views": 20.0})), 10)
    assert found["unseen"].unique().tolist() == ["user_id=nobody; city=Oz"]


def test_users_and_candidates_of_files(
    finished: FinishedRun, opened: OpenedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = finished.log["user_id"].unique()[:3]
    pd.DataFrame({"device": "tablet", "user_id": users}).to_csv(tmp_path / "u.csv", index=False)
    skus = ["sku-0009", "sku-0001", "sku-0003", "sku-0001"]
    pd.DataFrame({"sku": skus, "price": [5, 6, 7, 8]}).to_csv(tmp_path / "i.csv", index=False)
    files = (f"users={tmp_path / 'u.csv'}", f"candidates={tmp_path / 'i.csv'}")
    found = lists(finished, tmp_path, *files, "seen=keep", "k=9", "model=pruned")
    assert found.groupby("user").size().tolist() == [3, 3, 3]
    for user in users:
        rows = found[found["user"] == user]
        own = finished.log[finished.log["user_id"] == user].iloc[-1]
        items = finished.log.drop_duplicates("sku").set_index("sku").loc[rows["item"]]
        frame = items[["brand", "tags"]].reset_index()
        frame["price"] = [
            {"sku-0009": 5.0, "sku-0001": 6.0, "sku-0003": 7.0}[k] for k in frame["sku"]
        ]
        frame = frame.assign(user_id=user, **own[CONTEXT].to_dict()).assign(device="tablet")
        frame["age"] = pd.to_numeric(frame["age"], errors="coerce")
        batch = opened.encoder.encode(Part(frame, np.zeros((3, 1)))).batch
        logits = opened.pruned.predict(batch)[:, 0].numpy()
        assert abs(rows["logit"] - logits).max() < 1e-6
        assert rows["logit"].is_monotonic_decreasing
    pd.DataFrame({"sku": ["sku-0001", "new"]}).to_csv(tmp_path / "i.csv", index=False)
    assert recommend(finished, *files) == 1
    assert "i.csv, line 3: the catalogue has no item 'new'" in capsys.readouterr().err
    (tmp_path / "i.csv").write_text("sku,price\nsku-0001,cheap\n")
    assert recommend(finished, *files, f"out={tmp_path / 'no.csv'}") == 1
    assert "i.csv, line 2: price is 'cheap'" in capsys.readouterr().err
    assert not (tmp_path / "no.csv").exists()


def test_equal_scores_keep_the_order_of_the_candidates() -> None:
    scores = torch.zeros(2, 6)
    scores[1, 4], scores[1, 0] = 1, -torch.inf
    found = best(scores, 3)
    assert found.places.tolist() == [0, 1, 2, 4, 1, 2]
    assert found.users.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.ranks.tolist() == [1, 2, 3, 1, 2, 3]


def test_vectors_rank_as_the_logits_do(finished: FinishedRun) -> None:
    opened = OpenedRun.open(finished.directory)
    encoder, target = opened.encoder, Target("found", "retrieval")
    schema = replace(encoder.schema, targets=(encoder.schema.targets[0], target))
    opened.__dict__["encoder"] = replace(encoder, schema=schema)
    opened.__dict__["model"] = TwoTower(schema, embedding=4, towers=[6]).eval()
    ranker = Ranker(opened, CandidateItems.of_catalogue(opened))
    some = UserRows(
        pd.DataFrame({"user_id": finished.log["user_id"].unique()[:5]}),
        Place(Path("users"), lines=range(5)),
    )
    users = ranker.users(with_context(opened, some, pd.DataFrame()), some.place)
    assert ranker.target == 1
    scores = ranker.scores(users)
    logits = opened.model.predict(ranker.pairs(users, ranker.items))[:, 1].view(5, -1)
    torch.testing.assert_close(scores - scores[0, 0], logits - logits[0, 0])


def test_usage_errors(finished: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(finished, "k=3") == 2
    assert "user=VALUE" in capsys.readouterr().err
    assert recommend(finished, "user=u_00001", "context.citty=Paris") == 2
    assert "did you mean 'city'" in capsys.readouterr().err
    assert recommend(finished, "user=u_00001", "task=buy") == 1
    assert "'buy'" in capsys.readouterr().err
    assert recommend(finished, "user=u_00001", "seen=no", "users=all") == 2
    assert "seen: 'no'" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from glassrec.cli import main; assert main(['recommend', '--help']) == 0; "
        "print([name for name in ('torch', 'pandas', 'hydra', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
