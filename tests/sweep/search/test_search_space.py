"""What the words of a search span."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution as Choice
from optuna.distributions import FloatDistribution as Float
from optuna.distributions import IntDistribution as Int

from glassrec.config.errors import ConfigError
from glassrec.sweep.search.search_space import SearchObjective, Space, objective


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("model=mlp,gmf", Choice(["gmf", "mlp"])),
        ("model=choice(gmf)", Choice(["gmf"])),
        ("model=shuffle(neumf,gmf,mlp)", Choice(["gmf", "mlp", "neumf"])),
        ("model=glob(*mf)", Choice(["gmf", "mf", "neumf"])),
        ("model.bottom=[8],[16,8]", Choice(["[16,8]", "[8]"])),
        ("model.factors=range(8,65,8)", Int(8, 64, step=8)),
        ("model.factors=range(3)", Int(0, 2)),
        ("model.factors=range(9,2,-3)", Int(3, 9, step=3)),
        ("optimizer.lr=range(0.1,0.5,0.2)", Float(0.1, 0.3, step=0.2)),
        ("optimizer.lr=interval(1e-4,1e-2)", Float(1e-4, 1e-2)),
        ("optimizer.lr=tag(log,interval(1e-4,1e-2))", Float(1e-4, 1e-2, log=True)),
        ("model.factors=int(tag(log,interval(2,64)))", Int(2, 64, log=True)),
    ],
)
def test_a_word_with_several_values_is_a_dimension(word, expected):
    space = Space.read(["data.rows=400", word])
    assert space.dimensions == {word.partition("=")[0]: expected}
    assert space.fixed == ("data.rows=400",)


def test_a_trial_has_the_fixed_words_and_one_value_of_each_dimension():
    words = ["data.rows=400", "model=gmf,mlp", "+optimizer.lr=interval(1e-5,1)"]
    space = Space.read(words)
    point = {"model": "mlp", "+optimizer.lr": 1e-05}
    assert space.words(point) == ["data.rows=400", "model=mlp", "+optimizer.lr=1e-05"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=gmf"], "nothing to search"),
        (["model=gmf,mlpp"], "did you mean 'mlp'"),
        (["modle=gmf,mlp"], "did you mean 'model'"),
        (["model=gmf,mlp", "model.factor=range(1,4)"], "did you mean 'factors'"),
        (["model.factors=interval(2,8)", "model=gmf"], "must be a whole number"),
        (["model=gmf,mlp", "trainer.max_epochs=-1"], "trainer.max_epochs: -1 is not allowed"),
        (["optimizer.lr=tag(lgo,interval(1,2))"], "did you mean 'log'"),
        (["optimizer.lr=tag(log,interval(0,2))"], "low"),
        (["optimizer.lr=interval(2,1)"], "optimizer.lr=interval"),
        (["model.factors=range(3,3)"], "it is empty"),
        (["model=glob(zz*)"], "no option matches"),
        (["model=gmf,mlp", "model=mf,mlp"], "model is there twice"),
        (["model=gmf,mlp", "run.dir=here"], "--dir=DIR"),
        (["model=gmf,mlp", "hydra.verbose=true"], "leave it out"),
        (["model=gmf,"], "cannot be read"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(words, said):
    with pytest.raises(ConfigError, match=said):
        Space.read(words).check("run")


@pytest.mark.parametrize(
    ("text", "direction"),
    [
        ("val/auroc", "maximize"),
        ("val/ndcg@10", "maximize"),
        ("val/log_loss", "minimize"),
        ("pruned/val/rmse", "minimize"),
        ("pruned/parameters", "minimize"),
        ("latency_p50_4096", "minimize"),
        ("pruned/units", "maximize"),
        ("explain/relative_delta", "minimize"),
        ("neither/known:maximize", "maximize"),
    ],
)
def test_it_is_known_which_way_a_metric_is_better(text, direction):
    assert objective(text) == SearchObjective(text.partition(":")[0], direction)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("test/auroc", "take val/auroc"),
        ("pruned/test/auroc:maximize", "take pruned/val/auroc"),
        ("pruned/paramters", "did you mean 'pruned/parameters'"),
        ("val/calibration", "Write val/calibration:minimize"),
        ("val/auroc:up", "must end in :minimize or :maximize"),
    ],
)
def test_wrong_objectives_are_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        objective(text)
