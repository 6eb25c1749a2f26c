"""The metrics of a trained run, as a row of a CSV: study.py FOLDER_OF_ML_1M RUN_DIR.

The later stages of a run pass every training row, each with a history of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import yaml
from safetensors.torch import load_file

from glassrec.data.movielens import MovieLens1M
from glassrec.data.splits import LeaveOneOut
from glassrec.metrics.quality import quality
from glassrec.models.sasrec import SASRec


def main(root: Path, run: Path) -> None:
    """Print the row of the epoch that is best on validation."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    split = LeaveOneOut(candidates=config["data"]["split"]["candidates"])
    source = MovieLens1M(root, split=split, history=config["data"]["history"])
    dataset = source.load(config["seed"])
    settings = {n: v for n, v in config["model"].items() if not n.startswith("_")}
    model = SASRec(dataset.schema, **settings)
    model.load(load_file(run / "weights.safetensors"), str(run))
    epochs = pd.read_csv(run / "history.csv")
    best = int(epochs["val/ndcg@10"].argmax())
    row = {"run": "sasrec", "seed": config["seed"], "epochs": len(epochs), "best_epoch": best + 1}
    for name in ("val", "test"):
        found = quality(model, dataset, name)
        row |= {f"{name}/{metric}": found[metric] for metric in ("hr@10", "ndcg@10")}
    pd.DataFrame([row]).to_csv(sys.stdout, index=False, float_format="%.6g")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
