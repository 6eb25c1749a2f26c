#!/usr/bin/env bash
# Neural Collaborative Filtering on MovieLens-1M: run.sh FOLDER_OF_THE_AUTHORS_FILES
# One thread a run is fastest: the steps are small.
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_THE_AUTHORS_FILES}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
run() { glassrec run experiment=ncf_ml1m data.root="$root" "$@"; }

run model=neumf run.dir=runs/neumf &
run model=gmf run.dir=runs/gmf
run model=mlp run.dir=runs/mlp
run model=mlp trainer.batch_size=1024 run.dir=runs/mlp_1024
run model=neumf model.pretrained.gmf=runs/gmf model.pretrained.mlp=runs/mlp_1024 \
    optimizer.lr=0.0001 trainer.batch_size=1024 trainer.max_epochs=5 run.dir=runs/neumf_pretrained
wait
