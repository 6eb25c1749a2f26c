"""The choices in configs/trainer and configs/optimizer, as Hydra composes them."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from glassrec.training.trainer import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"


OPTIMIZERS = [
    path
    for path in sorted(CONFIGS.glob("*optimizer/*.yaml"))
    if (path.parent.name, path.stem) != ("table_optimizer", "none")
]


def choice(group, name):
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return compose(f"{group}/{name}")[group]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("trainer/*.yaml")), ids=lambda path: path.stem)
def test_each_trainer_spells_out_every_setting(path):
    config = choice("trainer", path.stem)
    assert set(config) == {"_target_", *(field.name for field in fields(Trainer))} - {"lightning"}
    trainer = instantiate(config)
    assert isinstance(trainer, Trainer)
    assert trainer.accelerator == path.stem


@pytest.mark.parametrize("path", OPTIMIZERS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_optimizer_takes_its_settings_and_makes_a_step(path):
    config = choice(path.parent.name, path.stem)
    table = torch.nn.Embedding(3, 2, sparse=path.parent.name == "table_optimizer")
    weight = torch.nn.init.ones_(table.weight)
    optimizer = instantiate(config)([weight])
    assert type(optimizer).__name__.lower() == path.stem.replace("_", "")
    for name in set(config) - {"_target_", "_partial_"}:
        value = optimizer.defaults[name]
        assert value == (tuple(config[name]) if isinstance(value, tuple) else config[name])
    table(torch.arange(3)).square().sum().backward()
    optimizer.step()
    assert (weight < 1).all()
