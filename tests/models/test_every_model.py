"""What holds for every model in `configs/model`, by its mere existence."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import PrunableLayer

CONFIGS = Path(__file__).parents[2] / "configs" / "model"
MODELS = [path for path in sorted(CONFIGS.glob("*.yaml")) if path.stem != "imported"]


def test_one_logit_a_row_and_task(model: Recommender, batch: Batch) -> None:
    assert model(batch).shape == (batch.rows, batch.targets.shape[1])
    assert model(batch).isfinite().all()


def test_rows_do_not_see_each_other(model: Recommender, batch: Batch) -> None:
    single = torch.cat([model(part) for part in batch.chunks(1)])
    torch.testing.assert_close(model(batch), single)
    torch.testing.assert_close(model.predict(batch, chunk=5), model(batch))


def test_a_model_goes_to_the_processes_of_other_devices(model: Recommender, batch: Batch) -> None:
    assert torch.equal(pickle.loads(pickle.dumps(model))(batch), model(batch))


def test_the_logit_has_no_door_beside_the_inputs(model: Recommender, batch: Batch) -> None:
    inputs = Inputs(*(part.detach() for part in model.embed(batch)))
    before = model.score(inputs)
    with torch.no_grad():
        model.table.weight.zero_()
    assert torch.equal(model.score(inputs), before)
    assert before.std() > 0


def test_names_of_units_are_unique_and_tell_their_layer(model: Recommender) -> None:
    names = [n for name, layer in model.layers.items() for n in layer.neuron_names(name)]
    assert len(set(names)) == len(names) == sum(len(la.units) for la in model.layers.values())
    for name in names:  # `tower.0[17]`, a dimension `C1[3]`, or two columns: `C1×C2`
        assert re.fullmatch(r"[A-Za-z][\w.]*\[\d+\]|\w+×\w+", name), name


def _with_unit_fixed(model: Recommender, layer: PrunableLayer, unit: int, at: float, batch: Batch):
    """The logits of the whole model where one unit is held at a value."""

    def hold(_: object, __: object, emitted: torch.Tensor) -> torch.Tensor:
        emitted = emitted.clone()
        emitted[:, unit] = at
        return emitted

    handle = layer.activation_module.register_forward_hook(hold)
    try:
        return model(batch)
    finally:
        handle.remove()


def test_a_cut_equals_holding_the_units_at_their_constants(
    model: Recommender, batch: Batch
) -> None:
    model.double()
    batch = batch._replace(dense=batch.dense.double())
    for name, layer in model.layers.items():
        units = len(layer.units)
        constants = torch.zeros(units).double()
        value = 0.7 if layer.foldable(torch.full((units,), 0.7)).all() else 0.0
        constants[1] = value
        small = deepcopy(model)
        kept = torch.tensor([i for i in range(units) if i != 1])
        small.layers[name].keep(kept, constants)
        assert small.layers[name].neuron_names(name) == [
            n for i, n in enumerate(layer.neuron_names(name)) if i != 1
        ]
        expected = _with_unit_fixed(model, layer, 1, value, batch)
        torch.testing.assert_close(small(batch), expected, rtol=0, atol=1e-9)


def test_a_cut_model_is_smaller_and_keeps_its_mode(model: Recommender) -> None:
    model.train()
    before = model.parameter_count
    for layer in model.layers.values():
        units = len(layer.units)
        layer.keep(torch.arange(units // 2), torch.zeros(units))
    # A model whose units own no weights, such as a plain dot product, only computes less.
    owned = any(p.shape[0] > 1 for la in model.layers.values() for p in la.parameters())
    assert model.parameter_count < before or not owned
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("task", [0, 1])
def test_attributions_add_up_to_the_logit_difference(
    model: Recommender, batch: Batch, task: int
) -> None:
    model.double()
    inputs = Inputs(*(part.detach().double() for part in model.embed(batch)))
    base = build_baseline(model, "mean", inputs).expand_to(inputs)
    view = build_feature_mask(model.schema, model.width, "fields", model.device)
    values = IntegratedGradients(1000).attribute(MaskedModel(model, view, inputs, base, task), 0)
    with torch.no_grad():
        difference = (model.task_logits(inputs) - model.task_logits(base))[:, task]
    assert difference.std() > 0
    torch.testing.assert_close(values.sum(1), difference, rtol=1e-3, atol=1e-3)


def test_pruned_weights_reload_in_a_fresh_process(
    build: Callable[..., Recommender], schema: Schema, batch: Batch, tmp_path: Path
) -> None:
    logits = {}
    for config in MODELS:
        model = build(config.stem)
        for layer in model.layers.values():
            units = len(layer.units)
            layer.keep(torch.arange(1, units, 2), torch.zeros(units))
        save_file(model.state_dict(), tmp_path / f"{config.stem}.safetensors")
        logits[config.stem] = model(batch).detach()
    torch.save((schema, tuple(batch)), tmp_path / "batch.pt")
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, *map(str, MODELS)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "logits.pt")
    assert {name: torch.equal(each, found[name]) for name, each in logits.items()} == dict.fromkeys(
        logits, True
    )


RELOAD = """
import sys, torch
from pathlib import Path
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file
from glassrec.data.batch import Batch

schema, batch = torch.load("batch.pt", weights_only=False)
logits = {}
for config in map(Path, sys.argv[1:]):
    model = instantiate(OmegaConf.load(config))(schema)
    model.load(load_file(f"{config.stem}.safetensors"), "here")
    logits[config.stem] = model.eval()(Batch(*batch)).detach()
torch.save(logits, "logits.pt")
"""


def test_cut_weights_load_into_a_freshly_built_model(model: Recommender, batch: Batch) -> None:
    whole = deepcopy(model)
    for layer in model.layers.values():
        units = len(layer.units)
        layer.keep(torch.arange(1, units, 2), torch.zeros(units))
    whole.load(model.state_dict(), "here")
    assert torch.equal(whole(batch), model(batch))
    assert [*whole.state_dict()] == [*model.state_dict()]


def test_an_input_that_no_one_reads_does_not_matter(model: Recommender, batch: Batch) -> None:
    read = set(model.schema.field_names)
    ids = batch.ids.clone()
    for column, name in enumerate(("C1", "user", "C2", "C2", "C2", "item")):
        if name not in read:
            ids[:, column] += 1
    assert torch.equal(model(batch._replace(ids=ids)), model(batch))


def test_an_estimate_starts_at_the_mean_rating(
    request: pytest.FixtureRequest, model: Recommender, schema: Schema, batch: Batch
) -> None:
    label, stars = schema.targets
    raised = replace(schema, targets=(label, replace(stars, mean=3.5)))
    logits = []
    for each in (schema, raised):
        torch.manual_seed(0)
        logits.append(instantiate(OmegaConf.load(_config(request)))(each)(batch))
    expected = torch.tensor([0.0, 3.5]).expand(batch.rows, 2)
    torch.testing.assert_close(logits[1] - logits[0], expected)


def _config(request: pytest.FixtureRequest) -> Path:
    """The YAML of the model that the test is about."""
    name = request.node.callspec.params["model"]
    return next(path for path in MODELS if path.stem == name)
