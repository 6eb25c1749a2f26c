#!/usr/bin/env bash
# Ratings, retrieval, and both at once on MovieLens-100K: run.sh FOLDER_OF_ML_100K
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_ML_100K}")
study=runs/two_tower_movielens
ratings='objective.weights={retrieval: 0}' retrieval='objective.weights={rating: 0}'

run() { # NAME SEED SETTING...
  glassrec run experiment=two_tower_movielens data.root="$root" seed="$2" run.dir="$study/$1-$2" "${@:3}"
}

for seed in 0 1 2; do
  run joint "$seed" explain.task=rating explain/method=shapley explain.baseline=background explain.rows=200
  run rating "$seed" "$ratings" optimizer.lr=0.001
  run retrieval "$seed" "$retrieval" explain.task=retrieval
  run mf-rating "$seed" "$ratings" model=mf optimizer=adamw optimizer.lr=0.003 optimizer.weight_decay=1.0
  run mf-retrieval "$seed" "$retrieval" explain.task=retrieval model=mf model.factors=32
  run popularity "$seed" "$retrieval" explain.task=retrieval model=popularity optimizer.lr=0.05
done
