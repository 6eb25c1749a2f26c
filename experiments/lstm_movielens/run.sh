#!/usr/bin/env bash
# The next item on MovieLens-100K, by history and without: run.sh FOLDER_OF_MOVIELENS_100K
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_MOVIELENS_100K}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
run() { # NAME SETTING...
  glassrec run experiment=lstm_movielens data.root="$root" 'seeds=[0,1,2]' \
      run.dir="runs/lstm_movielens/$1" "${@:2}"
}
run lstm
run gru model.cell=gru
run gmf model=gmf model.factors=32 trainer.max_epochs=20 explain.granularity=fields
run mf model=mf model.factors=32 trainer.max_epochs=20 explain.granularity=fields
run popularity model=popularity trainer.max_epochs=20 explain.granularity=fields
