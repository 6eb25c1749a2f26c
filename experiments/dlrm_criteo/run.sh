#!/usr/bin/env bash
# DLRM on 10,000 rows of the Criteo challenge, and on planted clicks: run.sh FOLDER_OF_TRAIN_TXT
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_TRAIN_TXT}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
runs=runs/dlrm_criteo
criteo=(experiment=dlrm_criteo data.root="$root")
# A run holds one explanation, so each has a run of its own.
explain() { # NAME SETTING...
  glassrec explain run.dir="$runs/$1" explain.select.split=test explain.select.rows=null "${@:2}"
}
clicks=(explain.select.above=0.6 explain/reference=all explain.reference.split=test)

glassrec run "${criteo[@]}" run.dir="$runs/pruned"

for baseline in zero mean; do
  glassrec train "${criteo[@]}" run.dir="$runs/clicks_$baseline"
  explain "clicks_$baseline" explain.baseline="$baseline" "${clicks[@]}"
  glassrec train "${criteo[@]}" run.dir="$runs/all_$baseline"
  explain "all_$baseline" explain.baseline="$baseline"
done
glassrec train "${criteo[@]}" run.dir="$runs/all_labels"
explain all_labels explain.baseline=zero explain.significance=labels

glassrec run run.dir="$runs/planted_pruned"
for rows in clicks all; do
  glassrec train run.dir="$runs/planted_$rows"
done
explain planted_clicks explain.baseline=zero "${clicks[@]}"
explain planted_all explain.baseline=zero
