#!/usr/bin/env bash
# Ratings, retrieval, and both at once on MovieLens-100K: run.sh FOLDER_OF_ML_100K
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_ML_100K}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
run() { # NAME SETTING...
  glassrec run experiment=two_tower_movielens data.root="$root" seeds=[0,1,2] \
      run.dir="runs/two_tower_movielens/$1" "${@:2}"
}
ratings='objective.weights={retrieval: 0}'
retrieval='objective.weights={rating: 0}'

run joint explain.task=rating explain/method=shapley explain.baseline=background \
    explain.select.rows=200
run rating "$ratings" optimizer.lr=0.001
run retrieval "$retrieval" explain.task=retrieval
run mf_rating "$ratings" model=mf optimizer=adamw optimizer.lr=0.01 optimizer.weight_decay=0.3
run mf_retrieval "$retrieval" explain.task=retrieval model=mf model.factors=32 trainer.max_epochs=15
run popularity "$retrieval" explain.task=retrieval model=popularity optimizer.lr=0.05 \
    trainer.max_epochs=5
