#!/usr/bin/env bash
# DLRM on the first 10,000 rows of the Criteo challenge: run.sh FOLDER_OF_TRAIN_TXT
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_TRAIN_TXT}")
glassrec run experiment=dlrm_criteo data.root="$root" run.dir=runs/dlrm_criteo
