"""The loss of every step against one row at a time, its rows against pandas, and its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from glassrec.data.catalogue import Catalogue
from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, build_dataset
from glassrec.data.splits import LeaveOneOut
from glassrec.models.lstm import LSTM
from glassrec.models.mf import MF
from glassrec.models.sasrec import SASRec
from glassrec.training.objective import EveryStepLoss, Objective
from glassrec.training.trainer import Trained, Trainer

LENGTH, ITEMS = 6, 12


def _log(users: int = 40) -> pd.DataFrame:
    """Users who walk a circle of items from a place of their own, in random order of the file."""
    random = np.random.default_rng(0)
    rows = [
        (user, (user * 5 + step) % ITEMS, step)
        for user in range(users)
        for step in range(random.integers(4, 11))
    ]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"]).sample(frac=1, random_state=1)
    return frame.assign(kind=frame["item"] % 3).reset_index(drop=True)


@pytest.fixture
def walks() -> Dataset:
    columns = Columns(
        categorical=("kind",), user="user", item="item", item_side=("kind",), time="time"
    )
    return build_dataset(_log(), columns, LeaveOneOut(candidates=1), seed=0, history=LENGTH)


def test_a_row_a_user_holds_the_newest_of_their_training_items(walks: Dataset) -> None:
    rows = Objective(steps="every").training_rows(walks)
    assert (rows.rows_per_epoch, rows.negatives) == (40, None)
    schema, frame = walks.schema, _log().sort_values("time")
    for ids, history in zip(*rows.train.batch[1:3], strict=True):
        steps = [*history[history > 0], ids[schema.id_columns("item")[0]]]
        values = walks.encoder.vocabularies["item"].values
        found = [values[int(step) - schema.unseen_id("item") - 1] for step in steps]
        number = int(ids[schema.id_columns("user")[0]]) - schema.unseen_id("user") - 1
        user = walks.encoder.vocabularies["user"].values[number]
        assert found == frame.loc[frame["user"] == user, "item"].tolist()[:-2][-LENGTH - 1 :]


class _Fixed:
    """Negatives that a step of the test can tell by the user."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def draw(self, users: torch.Tensor, generator: object) -> torch.Tensor:
        return users % len(self.catalogue)


@pytest.mark.parametrize("kind", [SASRec, LSTM])
def test_the_loss_is_that_of_single_rows(walks: Dataset, kind: type[SASRec | LSTM]) -> None:
    torch.manual_seed(0)
    model = kind(walks.schema).eval()
    if isinstance(model, SASRec):  # a step has another place in the whole sequence
        model.positions.data.zero_()
    negatives = _Fixed(walks.catalogue)
    batch = walks.train.batch.select(walks.sequences)
    loss = EveryStepLoss(negatives)(model, batch)
    losses = []
    item = walks.catalogue.columns[0]
    for row in batch.chunks(1):
        steps = [*row.history[0].tolist(), int(row.ids[0, item])]
        for end in range(1, LENGTH + 1):
            if steps[end - 1] == 0:
                continue
            history = torch.tensor([[*[0] * (LENGTH - end), *steps[:end]]])
            number = walks.catalogue.numbers(torch.tensor([steps[end]]))
            for chosen, truth in ((number, 1.0), (row.ids[:, 0] % ITEMS, 0.0)):
                single = row._replace(history=history, ids=row.ids.clone())
                walks.catalogue.insert(single, 0, chosen)
                logit = model(single)
                losses.append(F.binary_cross_entropy_with_logits(logit, torch.full((1, 1), truth)))
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def _fit(dataset: Dataset, directory: Path, *, crash_after: int = 0) -> dict[str, torch.Tensor]:
    """The weights after eight epochs, also of a training that stops once on the way."""

    def stop(row: Mapping[str, float]) -> None:
        if row["epoch"] == crash_after:
            raise InterruptedError

    def fit() -> Trained:
        torch.manual_seed(0)
        return Trainer(max_epochs=8, batch_size=16, monitor="val/auroc").fit(
            SASRec(dataset.schema, embedding=16), dataset,
            lambda parameters: torch.optim.Adam(parameters, lr=0.01), seed=0,
            directory=directory, objective=Objective(steps="every"), quiet=True, on_epoch=stop,
        )  # fmt: skip

    directory.mkdir()
    if crash_after:
        with pytest.raises(InterruptedError):
            fit()
        crash_after = 0
    trained = fit()
    values = trained.history["val/auroc"]
    assert values.iloc[-1] > 0.98 > 0.9 > values.iloc[0]
    return trained.weights


def test_it_learns_a_circle_and_goes_on_to_the_same_bits(walks: Dataset, tmp_path: Path) -> None:
    whole = _fit(walks, tmp_path / "whole")
    resumed = _fit(walks, tmp_path / "resumed", crash_after=3)
    assert all(torch.equal(whole[name], each) for name, each in resumed.items())


def test_what_has_no_sequences_is_refused(walks: Dataset) -> None:
    every = Objective(steps="every")
    with pytest.raises(ValueError, match=r"objective\.steps: every needs data.history=200"):
        every.training_loss(Dataset(walks.schema, walks.train, walks.validation, walks.test))
    loss, batch = every.training_loss(walks), every.training_rows(walks).train.batch
    with pytest.raises(ValueError, match=r"every is for model=sasrec or lstm, not MF"):
        loss(MF(walks.schema), batch)
