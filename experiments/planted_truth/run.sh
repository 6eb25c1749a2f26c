#!/usr/bin/env bash
# What an explanation finds of effects that are known; the data are generated: run.sh
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
run() { # NAME SETTING...
  glassrec run experiment=planted_truth run.dir="runs/planted_truth/$1" "${@:2}"
}
seeds='seeds=[0,1,2]'
few=explain.compare.kernel_shap.samples=128
all=(explain.compare.shapley.max_players=13 explain.compare.shapley_sampling.permutations=64 "$few")
run dcn "$seeds" "${all[@]}"
run dlrm "$seeds" "${all[@]}" model=dlrm data.rows=60000 data.users=120 data.items=80 \
    trainer.max_epochs=5
run dcn_background "$seeds" explain.baseline=background:10 explain/compare=quick \
    +explain/method@explain.compare.kernel_shap=kernel_shap "$few" \
    +explain/method@explain.compare.deeplift_shap=deeplift_shap \
    +explain/method@explain.compare.gradient_shap=gradient_shap

# LIME as it is often run, on 5 dense columns and 8 fields of 8 dimensions.
run lime model.embedding=8 explain.granularity=dimensions explain/method=lime_classic \
    explain/compare=quick +explain/method@explain.compare.lime=lime
