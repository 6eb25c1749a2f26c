"""The right setting for a wrong one, for error messages: names in other libraries, spellings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from glassrec.run import flat
from glassrec.spelling import either

_SIZES = (
    "dim embed_dim embedding_dim embedding_size emb_dim emb_size embedding factors n_factors "
    "num_factors latent_dim latent_factors embed_size vector_size d_model"
)
_WIDTHS = (
    "hidden hidden_dim hidden_size hidden_sizes hidden_units hidden_layers hidden_layer_sizes "
    "layers mlp_layers mlp_hidden_size dnn_hidden_units fc_layers units width widths"
)
KEYS = {
    "seed": "random_state random_seed manual_seed seed_everything rng",
    "run.dir": "output out output_dir out_dir save_dir log_dir logdir default_root_dir dir folder "
    "save_path checkpoint_dir results_dir run_dir",
    "start": "checkpoint ckpt ckpt_path pretrained pretrain load load_from init_from weights "
    "model_path model_file warm_start",
    "data.path": "file path data_path csv filename train_file train_path input",
    "data.root": "data_dir data_path dataset_path data_root dataset_dir",
    "data.negatives": "neg n_neg num_neg num_ng negative_samples n_negatives num_negatives "
    "neg_ratio train_neg_sample_args",
    "data.history": "maxlen max_len max_seq_len max_seq_length max_item_list_length seq_len "
    "sequence_length history_len",
    "data.split.test": "test_size test_ratio test_share",
    "data.split.validation": "val_size val_ratio valid_size valid_ratio validation_split "
    "validation_size",
    "model.embedding": _SIZES,
    "model.factors": _SIZES,
    "model.hidden": _WIDTHS,
    "model.deep": _WIDTHS,
    "model.towers": _WIDTHS,
    "model.bottom": _WIDTHS,
    "model.top": _WIDTHS,
    "optimizer.lr": "learning_rate base_lr init_lr initial_lr learning_rate_init",
    "optimizer.weight_decay": "wd l2 l2_reg reg reg_weight regularization",
    "trainer.max_epochs": "epoch epochs n_epoch n_epochs num_epoch num_epochs nb_epochs "
    "max_iter num_train_epochs",
    "trainer.batch_size": "bs batch batchsize train_batch_size per_device_train_batch_size "
    "minibatch_size",
    "trainer.devices": "n_gpu n_gpus num_gpus ngpus num_devices n_devices world_size n_processes",
    "trainer.precision": "amp fp16 bf16 mixed_precision half",
    "trainer.monitor": "metric metrics eval_metric valid_metric metric_for_best_model",
    "trainer.patience": "early_stopping early_stop stopping_step early_stopping_rounds "
    "early_stopping_patience n_iter_no_change",
}
"""Names in other libraries (Lightning, RecBole, scikit-learn) by the key that they stand for."""

GROUPS = {
    "data": "dataset datasets dataset_name data_name",
    "model": "net network arch architecture algo algorithm estimator recommender model_name",
    "optimizer": "optim opt optimiser learner solver",
    "objective": "loss criterion loss_fn loss_type",
    "trainer": "device accelerator gpu gpus cuda use_gpu use_cuda no_cuda",
    "tracker": "logger loggers wandb use_wandb tracking report_to",
    "data/split": "splitter splitting split_by eval_setting eval_args",
    "explain/method": "explainer attribution attributions attribution_method",
    "experiment": "config config_name config_file preset",
}
"""Names in other libraries by the config group that they stand for."""

NOTES = {
    "resume resume_from resume_from_checkpoint continue restart": "the same command goes on where "
    "it stopped; start=RUN takes the weights of another run",
    "jobs n_jobs workers": "use -m -j N for runs at the same time",
    "config_path": "use --config-dir DIR for YAML files of your own",
    "dry_run": "use --dry-run",
}
"""What to say of names that stand for no setting."""

OPTIONS = {
    "movielens_100k": "ml100k ml100",
    "movielens_1m": "ml1m ml1",
    "table": "csv tsv parquet file custom own",
    "planted": "synthetic generated demo toy",
    "neumf": "ncf neuralcf neuralmf nmf",
    "dcn": "dcnv2 crossnet crossnetwork",
    "lstm": "gru gru4rec rnn",
    "mf": "svd biasedmf funksvd matrixfactorization fm",
    "popularity": "pop mostpop mostpopular toppop",
    "two_tower": "dssm twotowers dualencoder",
    "gpu": "cuda mps",
    "by_time": "time temporal chronological to timeorder",
    "leave_one_out": "loo ls leaveoneout",
    "wandb": "wb weightsandbiases true",
    "integrated_gradients": "ig",
    "kernel_shap": "shap",
    "feature_ablation": "ablation occlusion",
}
"""Other names of an option, of whichever group has it."""

_FILES = (".csv", ".tsv", ".txt", ".gz", ".parquet", ".inter")
_NO = ("", "0", "false", "none", "null", "cpu", "no", "off")


def meant(
    key: str, value: Any, config: Mapping[str, Any], groups: Mapping[str, Iterable[str]]
) -> list[str]:
    """The settings that an unknown dotted key stands for, as overrides: `optimizer.lr=0.1`."""
    root, name = key.split(".")[0], plain(key.rpartition(".")[2])
    if group := _group(root, name, groups):
        return [_chosen(group, name, value, groups[group])]
    keys = _keys(config, key)
    found = [each for each in keys if name in _plain(KEYS.get(each, ""))]
    found = found or [each for each, last in keys.items() if last == name]
    return _overrides(found, root, value)


def nearby(key: str, value: Any, config: Mapping[str, Any]) -> list[str]:
    """The settings elsewhere whose name is nearly that of an unknown key, as overrides."""
    keys = _keys(config, key)
    near = get_close_matches(plain(key.rpartition(".")[2]), {*keys.values()}, n=1, cutoff=0.8)
    found = [each for each, last in keys.items() if last in near]
    return _overrides(found, key.split(".")[0], value)


def note(key: str) -> str:
    """What to do in place of a setting that does not exist, if that is no other setting."""
    name = plain(key.rpartition(".")[2])
    return next((text for names, text in NOTES.items() if name in _plain(names)), "")


def no_option(word: str, known: Iterable[str], groups: Mapping[str, Iterable[str]]) -> str:
    """The end of a message on an unknown option: the nearest ones, then all of them.

    Where none is near, the options of that very name in other config `groups` are named.
    """
    names, near = list(known), [*map(repr, similar(word, known))]
    near = near or [f"{group}={word}" for group, there in groups.items() if word in there]
    hint = f"; did you mean {either(near)}?" if near else ""
    if "table" in names and Path(word).suffix in _FILES:
        hint = f"; did you mean data=table data.path={word} data.columns=FILE.yaml?"
    return f"{hint} (choices: {', '.join(names)}; --config-dir DIR adds your own)"


def similar(word: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that `word` may stand for, as far as the best reason goes."""
    known = {plain(name): name for name in names}
    for given in dict.fromkeys((plain(word), plain(word.rpartition(".")[2]))):
        other = [n for n in known.values() if given and given in OPTIONS.get(n, "").split()]
        begins = [name for short, name in known.items() if short.startswith(given)]
        near = [known[each] for each in get_close_matches(given, known, n=1)]
        found = ([known[given]] if given in known else []) or other
        if found := found or (begins if len(given) > 3 else []) or near:
            return found
    return []


def plain(name: str) -> str:
    """A name without its case, dashes, underscores, blanks and dots."""
    return re.sub(r"[\W_]", "", name.casefold())


def written(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _group(root: str, name: str, groups: Mapping[str, Iterable[str]]) -> str | None:
    if name in ("name", "type", "kind", "class") and root in groups:
        return root
    return next((group for group, names in GROUPS.items() if name in _plain(names)), None)


def _chosen(group: str, name: str, value: Any, known: Iterable[str]) -> str:
    """The override that chooses an option of a group; `trainer=gpu` for `cuda=true`."""
    text = written(value)
    if group == "trainer":
        off = (text.casefold() in _NO) != name.startswith("no")
        several = text.isdecimal() and int(text) > 1
        return "trainer=cpu" if off else f"trainer=gpu{f' trainer.devices={text}' * several}"
    if group == "tracker" and text.casefold() in _NO:
        return "tracker=none"
    near = similar(text, known)
    return f"{group}={near[0]}" if near else f"{group}=NAME (choices: {', '.join(known)})"


def _keys(config: Mapping[str, Any], unknown: str) -> dict[str, str]:
    keys = {key: plain(key.rpartition(".")[2]) for key in flat(config)}
    return {k: v for k, v in keys.items() if not k.endswith("_") and k != unknown}


def _overrides(keys: list[str], root: str, value: Any) -> list[str]:
    near = [key for key in keys if key.startswith(f"{root}.")] or keys
    return [f"{key}={written(value)}" for key in near[:4]]


def _plain(names: str) -> list[str]:
    return [plain(name) for name in names.split()]
