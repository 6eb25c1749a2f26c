#!/usr/bin/env bash
# The next item on MovieLens-100K, by history and without: run.sh FOLDER_OF_MOVIELENS_100K [SEED...]
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_MOVIELENS_100K [SEED...]}")
shift
run() { # NAME SEED SETTING...
  glassrec run experiment=lstm_movielens data.root="$root" run.dir="runs/lstm_movielens/$1-$2" seed="$2" "${@:3}"
}
for seed in "${@:-0}"; do
  run lstm "$seed"
  run gru "$seed" model.cell=gru
  run gmf "$seed" model=gmf model.factors=32 trainer.max_epochs=20 explain.players=fields
  run mf "$seed" model=mf model.factors=32 trainer.max_epochs=20 explain.players=fields
  run popularity "$seed" model=popularity trainer.max_epochs=20 explain.players=fields
done
