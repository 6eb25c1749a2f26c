"""A day after training, in full size: train on a CSV, move the run, delete the data, predict.

The log has string ids, unicode, missing numbers, tags and dates; the new rows have new users,
unknown categories, reordered and extra columns. Two commands of the installed `glassrec` are run:
train, then predict. The run's own predictions are those of the model in the process that has the
training data. Prints what it found, and fails if a number differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent))  # for `small_run`
sys.path.insert(0, str(Path(__file__).parent / "inference"))

import pandas as pd
from raw_clicks import FinishedRun, clicks, new_rows, own_predictions, write_source


def glassrec(*words: str) -> str:
    """Run a command; its time and its peak memory, in words."""
    start = perf_counter()
    code = "from glassrec.__main__ import main; import sys; sys.exit(main(sys.argv[1:]))"
    child = subprocess.Popen([sys.executable, "-c", code, *words])
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0, words
    return f"{perf_counter() - start:.1f} s, {used.ru_maxrss / 1024:,.0f} MiB at most"


def bits(one: pd.Series, other: pd.Series) -> str:
    """How two columns of numbers differ."""
    size = (one.to_numpy() - other.to_numpy()).__abs__().max()
    return "equal bit for bit" if size == 0 else f"largest difference {size:.2e}"


def trained(folder: Path, rows: int) -> FinishedRun:
    """The run, moved, and its own predictions of the test split; the data is deleted."""
    log, run = clicks(rows), folder / "run"
    source = write_source(folder / "data", log)
    stage = ["run", f"run.dir={run}", "data=table", *source, "trainer=cpu"]
    print(f"train     {rows:,} rows in {glassrec(*stage)}")
    dataset, logits = own_predictions(run)
    moved = folder / "elsewhere" / "run"
    shutil.copytree(run, moved)
    shutil.rmtree(folder / "data")
    shutil.rmtree(run)
    return FinishedRun(moved, log, dataset, logits)


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    with TemporaryDirectory() as name:
        study(Path(name), parser.parse_args().rows)


def study(folder: Path, rows: int) -> None:
    """Train, move, predict, compare."""
    run = trained(folder, rows)
    own = pd.Series(run.logits[:, 0].double().numpy())

    def predicted(frame: pd.DataFrame, *words: str) -> pd.DataFrame:
        frame.to_csv(folder / "new.csv", index=False)
        out = folder / "out.csv"
        took = glassrec(
            "predict", f"run.dir={run.directory}", f"rows={folder / 'new.csv'}", f"out={out}",
            *words,
        )  # fmt: skip
        print(f"          {len(frame):,} rows in {took}")
        return pd.read_csv(out, keep_default_na=False)

    same = predicted(run.test)
    print(f"predict   the same rows: {bits(same['logit'], own)}")
    assert (same["logit"] == own).all()
    chunked = predicted(run.test, "chunk=1000")
    print(f"predict   1,000 rows at a time: {bits(chunked['logit'], own)}")
    assert (chunked["logit"] - own).abs().max() < 1e-6
    frame = new_rows(run.test)
    found = predicted(frame, "reasons=3", "model=pruned")
    known = found["unseen"] == ""
    print(
        f"predict   new rows: {(~known).sum():,} of {len(found):,} with unseen values; on the "
        f"others the pruned model: {bits(found['logit'][known], own[known])}"
    )
    assert (found["logit"] - own)[known].abs().max() < 1e-5
    print(f"predict   a row: {found.iloc[0].to_dict()}")
    whole = run.log.drop(columns="clicked")
    for times in (1, 10):  # memory must not grow with the rows
        predicted(pd.concat([whole] * times))


if __name__ == "__main__":
    main()
