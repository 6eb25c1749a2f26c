"""The YAML files of configs/data say what the code says, and the split can be swapped."""

import importlib
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from glassrec.config.targets import resolve
from glassrec.data.splits import ByTime, Given, LeaveOneOut, Random, Splitter

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
SOURCES = sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml"))
SPLITS = {"random": Random, "by_time": ByTime, "leave_one_out": LeaveOneOut, "given": Given}


@pytest.fixture
def composed(tmp_path):
    """Composes `data=NAME` and more overrides with the project's data group."""
    (tmp_path / "root.yaml").write_text(
        f"defaults: [data: planted, _self_]\nhydra: {{searchpath: ['file://{CONFIGS}']}}\n"
    )

    def compose_with(*overrides):
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            return compose("root", list(overrides)).data

    return compose_with


@pytest.mark.parametrize("name", SOURCES)
def test_every_parameter_is_spelled_out_with_its_default(composed, name):
    config = composed(f"data={name}")
    module, _, qualified = config["_target_"].rpartition(".")
    parameters = {
        field.name: field for field in fields(getattr(importlib.import_module(module), qualified))
    }
    assert set(config) - {"_target_"} == set(parameters)
    for key, field in parameters.items():
        if field.default_factory is not MISSING:
            assert instantiate(config[key]) == field.default_factory()
        elif field.default is MISSING:
            assert OmegaConf.is_missing(config, key)
        else:
            assert config[key] == field.default


@pytest.mark.parametrize("name", SPLITS)
def test_every_split_file_gives_its_class_and_defaults(composed, name):
    split = instantiate(composed("data=criteo", f"data/split={name}")["split"])
    assert split == SPLITS[name]()
    assert isinstance(split, Splitter)


def test_a_source_and_its_split_are_made_from_the_command_line(composed, tmp_path):
    source = instantiate(
        composed(
            "data=movielens_100k",
            f"data.root={tmp_path}",
            "data/split=random",
            "data.split.test=0.2",
        )
    )
    assert source.split == Random(validation=0.1, test=0.2)


OWN = """\
from dataclasses import dataclass

import pandas as pd

from glassrec.data.dataset import build_dataset
from glassrec.data.columns import Columns
from glassrec.data.dataset import Source
from glassrec.data.splits import Random


@dataclass(frozen=True)
class Coins(Source):
    rows: int = 40

    def fingerprint(self):
        return {}

    def load(self, seed, scalers={}):
        frame = pd.DataFrame({"side": [*"ht"] * self.rows, "won": [1, 0] * self.rows})
        columns = Columns(label="won", categorical=("side",))
        return build_dataset(frame, columns, Random(), seed, scalers=scalers)
"""


def test_a_source_of_one_s_own_is_one_module_and_one_yaml_file(composed, tmp_path, monkeypatch):
    (tmp_path / "own_coins.py").write_text(OWN)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/coins.yaml").write_text("_target_: own_coins.Coins\nrows: 40\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("own_coins.Coins").is_class  # the command line accepts it
    data = instantiate(composed("data=coins", "data.rows=100")).load(seed=0)
    ids, won = data.train.batch.ids[:, 0], data.train.batch.targets[:, 0]
    assert len(ids) == 160
    assert won.equal((ids == 1).float())  # the sides h and t have the ids 1 and 2
