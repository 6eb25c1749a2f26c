"""What users of other libraries write is answered with the setting that does the same."""

import pytest

from glassrec.config import compose as config
from glassrec.config import guesses

MEANT = {
    "lr=0.1": "optimizer.lr=0.1",
    "learning_rate=0.1": "optimizer.lr=0.1",
    "optimizer.learning_rate=0.1": "optimizer.lr=0.1",
    "trainer.lr=0.1": "optimizer.lr=0.1",
    "weight_decay=0.1": "optimizer.weight_decay=0.1",
    "epochs=3": "trainer.max_epochs=3",
    "n_epochs=3": "trainer.max_epochs=3",
    "max_epochs=3": "trainer.max_epochs=3",
    "trainer.epochs=3": "trainer.max_epochs=3",
    "batch_size=64": "trainer.batch_size=64",
    "bs=64": "trainer.batch_size=64",
    "early_stopping=3": "trainer.patience=3",
    "dim=16": "model.embedding=16",
    "embedding_dim=16": "model.embedding=16",
    "hidden=[8,4]": "model.bottom=[8,4] or model.top=[8,4]",
    "random_state=1": "seed=1",
    "device=cuda": "trainer=gpu",
    "device=cpu": "trainer=cpu",
    "gpus=1": "trainer=gpu",
    "gpus=0": "trainer=cpu",
    "gpus=2": "trainer=gpu trainer.devices=2",
    "no_cuda=true": "trainer=cpu",
    "dataset=ml-1m": "data=movielens_1m",
    "model.name=GMF": "model=gmf",
    "net=NeuMF": "model=neumf",
    "optim=adam": "optimizer=adam",
    "wandb=true": "tracker=wandb",
    "wandb=false": "tracker=none",
    "logger=wandb": "tracker=wandb",
    "output_dir=x": "run.dir=x",
    "checkpoint=x": "start=x",
    "rows=9": "data.rows=9, explain.select.rows=9, explain.faithfulness.rows=9 or prune.rows=9",
    "explainer=lime": "explain/method=lime",
}
CHOICES = {
    "data=ml-100k": "'movielens_100k'",
    "data=ML1M": "'movielens_1m'",
    "data=movielens-1m": "'movielens_1m'",
    "data=movielens": "'movielens_100k' or 'movielens_1m'",
    "data=clicks.csv": "data=table data.path=clicks.csv data.columns=FILE.yaml",
    "model=NeuMF": "'neumf'",
    "model=DLRM": "'dlrm'",
    "model=TwoTower": "'two_tower'",
    "model=svd": "'mf'",
    "optimizer=Adam": "'adam'",
    "optimizer=torch.optim.AdamW": "'adamw'",
    "trainer=cuda": "'gpu'",
    "tracker=wb": "'wandb'",
    "explain/method=ig": "'integrated_gradients'",
    "explain/method=KernelSHAP": "'kernel_shap'",
}


@pytest.mark.parametrize(("word", "meant"), [*MEANT.items(), *CHOICES.items()])
def test_a_guess_is_answered_in_one_line_with_what_is_meant(word, meant):
    with pytest.raises(config.ConfigError) as error:
        config.prepare("run", [word])
    assert len(error.value.problems) == 1
    assert f"; did you mean {meant}?" in str(error.value)


@pytest.mark.parametrize("word", [w for w in MEANT.values() if " or " not in w])
def test_what_is_proposed_is_a_right_command(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    needed = [f"data.root={tmp_path}"] if word.startswith("data=") else []
    config.prepare("run", [*word.split(), *needed])


def test_names_depend_on_the_chosen_model():
    with pytest.raises(config.ConfigError, match=r"did you mean model\.factors=16\?"):
        config.prepare("run", ["model=gmf", "embedding_dim=16"])


def test_resuming_needs_no_setting():
    with pytest.raises(config.ConfigError, match="the same command goes on where it stopped"):
        config.prepare("run", ["resume=true"])


def test_a_group_that_the_data_lacks_names_the_data_that_have_it():
    with pytest.raises(config.ConfigError, match="movielens_100k, movielens_1m, table"):
        config.prepare("run", ["data=ncf", "data/split=by_time"])


def test_every_name_stands_for_one_group_and_every_key_exists_somewhere():
    names = [name for each in guesses.GROUPS.values() for name in each.split()]
    assert len(names) == len(set(names))
    known = config.options_of_groups(None)
    assert set(guesses.GROUPS) <= set(known)
    assert set(guesses.OPTIONS) <= {name for each in known.values() for name in each}


def test_nothing_is_proposed_for_a_word_like_no_other():
    composed = config.compose("run", [])
    assert guesses.meant("zzz", 1, composed, config.options_of_groups(None)) == []
    assert guesses.nearby("zzz", 1, composed) == []
    assert guesses.similar("zzz", ["adam", "sgd"]) == []
