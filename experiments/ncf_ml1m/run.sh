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

# What moves the logit: each number of the embeddings, from two baselines, then whole embeddings.
# Each explanation is made in a copy of the trained run, beside the others.
explained=runs/ncf_ml1m_explained
explain() { # MODEL NAME SETTING...
  [[ -e "$explained/$1_$2" ]] || cp -r "$explained/$1" "$explained/$1_$2"
  glassrec explain run.dir="$explained/$1_$2" explain/compare=sampled \
      explain.faithfulness.rows=200 "${@:3}"
}
for model in mlp neumf; do
  glassrec train experiment=ncf_ml1m data.root="$root" run.dir="$explained/$model" \
      model=$model trainer.batch_size=1024
  for baseline in zero mean; do
    explain $model $baseline explain.baseline=$baseline \
        explain.granularity=dimensions explain/method=deeplift
  done
done
whole=(explain.baseline=zero explain/method=shapley explain.select.label=1 explain/reference=random)
explain mlp embeddings "${whole[@]}"
explain neumf embeddings "${whole[@]}" explain.granularity=groups \
    "explain.groups.user_gmf=['user[0:8]']" "explain.groups.user_mlp=['user[8:40]']" \
    "explain.groups.item_gmf=['item[0:8]']" "explain.groups.item_mlp=['item[8:40]']"
