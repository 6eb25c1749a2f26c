"""The choices in configs/trainer and configs/optimizer, as Hydra composes them."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from glassrec.training.trainer import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"


def choice(group, name):
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return compose(f"{group}/{name}")[group]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("trainer/*.yaml")), ids=lambda path: path.stem)
def test_each_trainer_spells_out_every_setting(path):
    config = choice("trainer", path.stem)
    assert set(config) == {"_target_", *(field.name for field in fields(Trainer))}
    trainer = instantiate(config)
    assert isinstance(trainer, Trainer)
    assert trainer.accelerator == path.stem


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.glob("optimizer/*.yaml")), ids=lambda path: path.stem
)
def test_each_optimizer_takes_its_settings_and_makes_a_step(path):
    config = choice("optimizer", path.stem)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = instantiate(config)([weight])
    assert type(optimizer).__name__.lower() == path.stem
    for name in set(config) - {"_target_", "_partial_"}:
        value = optimizer.defaults[name]
        assert value == (tuple(config[name]) if isinstance(value, tuple) else config[name])
    weight.square().sum().backward()
    optimizer.step()
    assert (weight < 1).all()
