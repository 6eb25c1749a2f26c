#!/usr/bin/env bash
# Counterfactuals of first items on MovieLens-1M: run.sh FOLDER_OF_ML_1M
# Writes runs/, lists and neumf.csv, lstm.csv into the current folder.
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
here=$(dirname "$0")
data=(data=movielens_1m "data.root=$(realpath "${1:?usage: run.sh FOLDER_OF_ML_1M}")")
small=(trainer=cpu trainer.max_epochs=5 trainer.batch_size=8192
  explain.select.rows=50 explain.method.steps=4 explain.neurons.steps=4 explain.tolerance=1
  explain/compare=none explain.pair_rows=0 explain.faithfulness.rows=20
  explain.faithfulness.steps=4 explain.faithfulness.subsets=10 explain.faithfulness.points=1
  explain.faithfulness.models=1)
neumf=(model=neumf optimizer.lr=0.005)
lstm=(model=lstm model.embedding=16 model.hidden=16 "model.tower=[16]" data.history=10
  data.negatives=1 optimizer.lr=0.01)
for stage in train explain; do
  glassrec $stage run.dir=runs/neumf "${data[@]}" "${small[@]}" "${neumf[@]}"
  glassrec $stage run.dir=runs/lstm "${data[@]}" "${small[@]}" "${lstm[@]}"
done
for run in neumf lstm; do
  glassrec recommend run.dir=runs/$run users=all k=10 reasons=2 out=$run-lists.parquet
done
python "$here/study.py" runs/neumf neumf.csv
python "$here/study.py" runs/lstm lstm.csv
