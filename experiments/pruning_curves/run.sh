#!/usr/bin/env bash
# Which score finds the units that can go: run.sh FOLDER_OF_THE_NCF_AUTHORS_FILES
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_THE_NCF_AUTHORS_FILES}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
run() { # NAME SETTING...
  glassrec run experiment=pruning_curves 'seeds=[0,1,2]' run.dir="runs/pruning_curves/$1" "${@:2}"
}
run dlrm prune.curves.epochs=1
run dlrm_lasso objective.group_lasso=0.3 prune/curves=none
neumf=(data=ncf data.root="$root" data.validation=random model=neumf trainer.max_epochs=10
    trainer.batch_size=512)
run neumf "${neumf[@]}"
# What an epoch of training on mends, at two shares only, as it takes as long as an epoch of all rows.
run neumf_tuned "${neumf[@]}" prune/curves=quick prune.curves.epochs=1 prune.curves.draws=1 \
    'prune.curves.shares=[0.3,0.6]'
