#!/usr/bin/env bash
# Deep and cross network on MovieLens-100K: run.sh FOLDER_OF_U_DATA
# One thread a run is fastest: the steps are small.
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_U_DATA}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
run() { glassrec run experiment=dcn_movielens data.root="$root" 'seeds=[0,1,2,3,4]' "$@"; }

run run.dir=runs/dcn
run model.projection_dim=20 run.dir=runs/dcn_low_rank
run model=dnn optimizer.weight_decay=0.001 run.dir=runs/dnn
