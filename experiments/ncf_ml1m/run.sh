#!/usr/bin/env bash
# Neural Collaborative Filtering on MovieLens-1M: run.sh FOLDER_OF_THE_AUTHORS_FILES
# One thread a run is fastest: the steps are small.
set -euo pipefail
root=$(realpath "${1:?usage: run.sh FOLDER_OF_THE_AUTHORS_FILES}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
runs=runs/ncf_ml1m
run() { # NAME SETTING...
  glassrec run experiment=ncf_ml1m data.root="$root" run.dir="$runs/$1" "${@:2}"
}
parts() { echo "model.pretrained.gmf=$runs/gmf_$1 model.pretrained.mlp=$runs/mlp_$1"; }

small=('seeds=[0,1,2]')
run gmf_8 "${small[@]}" model=gmf
run mlp_8 "${small[@]}" model=mlp trainer.batch_size=1024
run neumf_8 "${small[@]}" model=neumf
run neumf_pretrained_8 "${small[@]}" model=neumf $(parts 8) \
    optimizer.lr=0.0001 trainer.batch_size=1024 trainer.max_epochs=5
run mf_8 "${small[@]}" model=mf optimizer.weight_decay=1e-6 trainer.patience=4
run popularity "${small[@]}" model=popularity \
    optimizer.lr=0.01 trainer.batch_size=16384 trainer.max_epochs=10

large=('seeds=[0,1]' model.factors=32 optimizer.weight_decay=1e-6)
run gmf_32 model=gmf "${large[@]}" trainer.patience=4
run mlp_32 model=mlp "${large[@]}" trainer.patience=4 trainer.batch_size=1024
run neumf_32 model=neumf "${large[@]}" trainer.patience=4 trainer.batch_size=1024
run neumf_pretrained_32 model=neumf "${large[@]}" $(parts 32) \
    optimizer.lr=0.0001 trainer.patience=2 trainer.batch_size=1024 trainer.max_epochs=6
run mf_32 model=mf "${large[@]}" trainer.patience=4
