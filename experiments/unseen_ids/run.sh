#!/usr/bin/env bash
# What to put into the vector of unseen ids, on MovieLens-100K: run.sh FOLDER_OF_ML_100K
# Writes results.csv into the current folder.
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python "$(dirname "$0")/study.py" "$(realpath "${1:?usage: run.sh FOLDER_OF_ML_100K}")"
