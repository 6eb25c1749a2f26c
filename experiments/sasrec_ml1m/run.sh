#!/usr/bin/env bash
# SASRec under its own protocol: run.sh FOLDER_OF_ML_1M; repeat the command to go on where it stopped
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_ML_1M}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
glassrec train experiment=sasrec_ml1m data.root="$root" run.dir=runs/sasrec_ml1m
python "$(dirname "$0")/study.py" "$root" runs/sasrec_ml1m
