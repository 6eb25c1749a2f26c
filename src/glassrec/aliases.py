"""Old names of settings: a command, a YAML file or a saved run may still use them for one release.

To rename a setting, add a row here and use the new name everywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

KEYS: dict[str, str] = {
    "prune.of": "prune.budget_unit",
    "prune.within": "prune.max_metric_drop",
    "prune.combinations": "prune.max_enumerated_inputs",
    "explain.against": "explain.reference",
    "explain.players": "explain.granularity",
}
"""The dotted key, or config group, that takes the place of an old one: `prune.of` of
`prune.budget_unit`. The settings below a key move with it."""

VALUES: dict[str, dict[str, str]] = {"prune.budget_unit": {"units": "neurons"}}
"""By the new dotted key: texts that it had before, and those that take their place."""

_EXPLAIN = "glassrec.explain."

TARGETS: dict[str, str] = {
    f"{_EXPLAIN}ablation.FeatureAblation": f"{_EXPLAIN}methods.coalitions.FeatureAblation",
    f"{_EXPLAIN}comparison.Faithfulness": f"{_EXPLAIN}evaluation.method_comparison.Faithfulness",
    f"{_EXPLAIN}deeplift.DeepLift": f"{_EXPLAIN}methods.deeplift.DeepLift",
    f"{_EXPLAIN}deeplift.DeepLiftShap": f"{_EXPLAIN}methods.deeplift.DeepLiftShap",
    f"{_EXPLAIN}gradients.GradientShap": f"{_EXPLAIN}methods.gradients.GradientShap",
    f"{_EXPLAIN}gradients.IntegratedGradients": f"{_EXPLAIN}methods.gradients.IntegratedGradients",
    f"{_EXPLAIN}kernel_shap.KernelShap": f"{_EXPLAIN}methods.kernel_shap.KernelShap",
    f"{_EXPLAIN}lime.Lime": f"{_EXPLAIN}methods.lime.Lime",
    f"{_EXPLAIN}shapley.Shapley": f"{_EXPLAIN}methods.coalitions.Shapley",
    f"{_EXPLAIN}shapley.ShapleySampling": f"{_EXPLAIN}methods.coalitions.ShapleySampling",
    f"{_EXPLAIN}stage.Explain": f"{_EXPLAIN}explainer.Explain",
    "glassrec.data.ncf.NCF": "glassrec.data.ncf_files.NCF",
    "glassrec.models.gmf.GMF": "glassrec.models.ncf.GMF",
    "glassrec.models.mlp.MLP": "glassrec.models.ncf.MLP",
    "glassrec.models.neumf.NeuMF": "glassrec.models.ncf.NeuMF",
    "glassrec.models.neumf.Pretrained": "glassrec.models.ncf.Pretrained",
    "glassrec.models.dnn.DNN": "glassrec.models.dcn.DNN",
    "glassrec.prune.stage.Prune": "glassrec.prune.pruner.Pruner",
    "glassrec.prune.curves.Curves": "glassrec.prune.pruning_curves.PruningCurves",
} | {
    f"glassrec.prune.scores.{name}": f"glassrec.prune.importance.{name}Score"
    for name in (
        "Conductance", "Taylor", "Activation", "Zeros", "Magnitude", "Deviation", "Random"
    )
}  # fmt: skip
"""The path that takes the place of an old `_target_`."""

_CAPTUM = f"{_EXPLAIN}captum_methods."

REPLACED: dict[str, dict[str, Any]] = {
    f"{_EXPLAIN}captum_deeplift.CaptumDeepLift": {
        "_target_": f"{_CAPTUM}CaptumMethod", "name": "DeepLift",
    },
    f"{_EXPLAIN}gradients.InputXGradient": {
        "_target_": f"{_CAPTUM}CaptumMethod", "name": "InputXGradient", "view": "mask",
    },
    f"{_EXPLAIN}neuron_conductance.NeuronConductance": {
        "_target_": f"{_CAPTUM}CaptumMethod", "name": "NeuronConductance",
        "kwargs": {"method": "gausslegendre"},
    },
    f"{_EXPLAIN}neurons.Activation": {
        "_target_": f"{_CAPTUM}CaptumNeurons", "name": "LayerActivation",
    },
    f"{_EXPLAIN}neurons.InternalInfluence": {
        "_target_": f"{_CAPTUM}CaptumNeurons", "name": "InternalInfluence",
    },
    f"{_EXPLAIN}neurons.LayerIntegratedGradients": {
        "_target_": f"{_CAPTUM}CaptumNeurons", "name": "LayerIntegratedGradients",
    },
}  # fmt: skip
"""The settings that take the place of an old `_target_` with another implementation."""

PARAMETERS: dict[str, dict[str, str]] = {
    f"{_CAPTUM}CaptumMethod": {"steps": "kwargs.n_steps"},
    f"{_CAPTUM}CaptumNeurons": {"steps": "kwargs.n_steps"},
    f"{_EXPLAIN}methods.coalitions.Shapley": {"max_players": "max_features"},
}
"""By the new `_target_`: the parameters, dotted, that take the place of old ones beside it."""


def current(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A configuration under the names of today.

    A value under an old key takes the place of one under the new key, which is a default then.

    Returns:
        The configuration, a copy; and a line about each old name in it.
    """
    found: dict[str, Any] = _copy(config)
    notes = []
    for old, new in KEYS.items():
        if (value := _take(found, old)) is not _NOTHING:
            _put(found, new, value)
            notes.append(f"{old} is now {new}")
    for key, texts in VALUES.items():
        node, last = _parent(found, key)
        if isinstance(value := node.get(last), str) and value in texts:
            notes.append(f"{key}={value} is now {key}={texts[value]}")
            node[last] = texts[value]
    return found, [*notes, *_update_nodes(found)]


def original(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, or a part of one by its root keys, under the names before any renaming.

    The keys of a record and the names of run directories are hashes of it, so that a renaming
    makes no result stale.
    """
    found: dict[str, Any] = _copy(config)
    for key, texts in VALUES.items():
        node, last = _parent(found, key)
        before = {new: old for old, new in texts.items()}
        if isinstance(value := node.get(last), str) and value in before:
            node[last] = before[value]
    first = {new: old for old, new in reversed(KEYS.items())}
    for new, old in first.items():
        if (value := _take(found, new)) is not _NOTHING:
            _put(found, old, value)
    _restore_nodes(found)
    return found


def current_word(word: str) -> tuple[str, list[str]]:
    """An override of the command line under the names of today, and a line about each old name."""
    found = re.fullmatch(r"([+~]{0,2})([\w./]+)(.*)", word, re.DOTALL)
    if found is None:
        return word, []
    prefix, key, rest = found.groups()
    new, notes = current_key(key), []
    if new != key:
        notes.append(f"{key} is now {new}")
    texts = VALUES.get(new.replace("/", "."), {})
    if rest.startswith("="):
        values = ",".join(texts.get(value, value) for value in rest[1:].split(","))
        if values != rest[1:]:
            notes.append(f"{new}{rest} is now {new}={values}")
            rest = f"={values}"
    return f"{prefix}{new}{rest}", notes


def current_defaults(text: str, group: str) -> tuple[str, list[str]]:
    """The text of an option of a group, with config groups of today in its defaults list."""
    notes = []
    for old, new in KEYS.items():
        before, after = (name.replace(".", "/") for name in (old, new))
        pairs = [(f"/?{before}", f"/{after}")]
        if before.startswith(f"{group}/") and after.startswith(f"{group}/"):  # relative names
            pairs.append((before.removeprefix(f"{group}/"), after.removeprefix(f"{group}/")))
        count = 0
        for one, other in pairs:
            pattern = rf"(?m)^(\s*-\s+(?:override\s+)?){one}(?=\s*:|@)"
            text, found = re.subn(pattern, rf"\g<1>{other}", text)
            count += found
        notes += [f"{before} is now {after}"] * bool(count)
    return text, notes


def current_keys(group: str, keys: Iterable[str]) -> list[str]:
    """The names of today of some keys in a config group, as records of old runs have them."""
    return [current_key(f"{group}.{key}").split(".")[1] for key in keys]


def current_key(key: str) -> str:
    """The dotted key, or config group with slashes, that takes the place of an old one."""
    for old, new in KEYS.items():
        for separator in "./":
            before, after = (name.replace(".", separator) for name in (old, new))
            if key == before or key.startswith((f"{before}.", f"{before}/")):
                return after + key[len(before) :]
    return key


# --- nested settings -------------------------------------------------------------------------

_NOTHING = object()


def _copy(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _parent(config: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The node that would hold a dotted key, an empty one if there is none, and the last part."""
    *parents, last = key.split(".")
    node: Any = config
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}, last


def _take(config: dict[str, Any], key: str) -> Any:
    node, last = _parent(config, key)
    return node.pop(last, _NOTHING)


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; a node is merged into one that is there."""
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            node[parent] = {}
        node = node[parent]
    there = node.get(last)
    if isinstance(there, dict) and isinstance(value, dict) and "_target_" not in value:
        value = there | value
    node[last] = value


def _update_nodes(node: Any) -> Iterator[str]:
    """Give nodes, in place, their new targets and parameters; a line about each old name."""
    for each in _nodes(node):
        target = each["_target_"]
        if target in TARGETS:
            each["_target_"] = TARGETS[target]
            yield f"{target} is now {TARGETS[target]}"
        elif target in REPLACED:
            each.update(_copy(REPLACED[target]))
            yield f"{target} is now {each['_target_']} with name={each['name']}"
        for old, new in PARAMETERS.get(each["_target_"], {}).items():
            if (value := _take(each, old)) is not _NOTHING:
                _put(each, new, value)
                yield f"{old} of {each['_target_']} is now {new}"


def _restore_nodes(node: Any) -> None:
    first = {new: old for old, new in reversed(TARGETS.items())}
    for each in [*_nodes(node)]:
        for old, new in PARAMETERS.get(each["_target_"], {}).items():
            if "." not in new and (value := _take(each, new)) is not _NOTHING:
                _put(each, old, value)
        if (before := _before_replacement(each)) is not None:
            each.clear()
            each.update(before)
        each["_target_"] = first.get(each["_target_"], each["_target_"])


def _before_replacement(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """The node with an old target of `REPLACED`; None where its settings are new ones."""
    for old, settings in REPLACED.items():
        fixed = {key: value for key, value in settings.items() if key != "kwargs"}
        kwargs = dict(node.get("kwargs") or {})
        steps = {"steps": kwargs.pop("n_steps")} if "n_steps" in kwargs else {}
        same = all(node.get(key) == value for key, value in fixed.items())
        if same and kwargs == settings.get("kwargs", {}):
            rest = {key: value for key, value in node.items() if key not in (*fixed, "kwargs")}
            return {"_target_": old} | rest | steps
    return None


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    """All nodes with a `_target_`."""
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node
        node = list(node.values())
    for inner in node if isinstance(node, list) else ():
        yield from _nodes(inner)
