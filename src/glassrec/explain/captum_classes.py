"""Captum's classes by name, and the logit of a masked view as the module that they need."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, get_type_hints

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from glassrec.explain.masking import MaskedModel
from glassrec.models.base import Inputs
from glassrec.spelling import one_of

Family = Literal["input", "neuron", "layer"]

PAIRED = {"DeepLiftShap": "DeepLift", "LayerDeepLiftShap": "LayerDeepLift",
          "NeuronDeepLiftShap": "NeuronDeepLift"}  # fmt: skip
"""Means over all baselines, by the method for one: each row has its own baselines here, over which
the explainer averages."""

_GIVEN = {
    "self", "forward_func", "model", "layer", "inputs", "baselines", "target", "feature_mask",
    "additional_forward_args", "neuron_selector", "layer_baselines", "layer_mask", "device_ids",
    "return_convergence_delta", "return_input_shape", "show_progress", "kwargs",
}  # fmt: skip
"""Arguments that are not the user's."""


class CaptumClass:
    """A class of `captum.attr` with the user's arguments, which are validated.

    Raises:
        ValueError: there is no such class in the family, or it has no such argument.
    """

    def __init__(self, family: Family, key: str, name: str, kwargs: Mapping[str, Any]) -> None:
        known = captum_classes(family)
        if name not in known:
            raise ValueError(
                f"{key}.name: captum.attr has no {family} method {name!r}{one_of(name, known)}"
            )
        self.name, self.type = name, known[PAIRED.get(name, name)]
        self.init, self.call = (
            dict(inspect.signature(function).parameters)
            for function in (self.type.__init__, self.type.attribute)
        )
        allowed = [each for each in (*self.init, *self.call) if each not in _GIVEN]
        for each in kwargs:
            if each not in allowed:
                raise ValueError(
                    f"{key}.kwargs.{each}: captum.attr.{name} has no such argument"
                    f"{one_of(each, allowed)}"
                )
        self.kwargs = {each: self._valid(key, each, value) for each, value in kwargs.items()}

    @property
    def evaluations(self) -> int:
        """How many rows Captum passes at once for each of ours."""
        many = 2 if "DeepLift" in self.name else 1
        names = ["n_steps", "perturbations_per_eval"]
        for each in [*names, *(["n_samples"] if "GradientShap" in self.name else [])]:
            if self.takes(each):
                many *= int(self.kwargs.get(each, self.call[each].default))
        return max(1, many)

    def takes(self, argument: str) -> bool:
        """Whether `attribute` has such an argument."""
        return argument in self.call

    def attribute(self, logit: LogitModule, modules: tuple[nn.Module, ...], **given: Any) -> Tensor:
        """Captum's attributions for all rows; arguments that it does not take are left out."""
        given |= {
            "inputs": logit.start.requires_grad_(),
            "baselines": logit.end,
            "additional_forward_args": (torch.arange(logit.view.rows, device=logit.start.device),),
        }
        mine = {name: value for name, value in self.kwargs.items() if name in self.init}
        theirs = {name: value for name, value in given.items() if name in self.call}
        theirs |= {name: value for name, value in self.kwargs.items() if name in self.call}
        found: Tensor = self.type(*modules, **mine).attribute(**theirs)
        return found.detach()

    @contextmanager
    def running(self, model: nn.Module, seed: int) -> Iterator[None]:
        """Run Captum: its draws from the seed, its errors as ValueError, and no trace of it."""
        before = {module: set(vars(module)) for module in model.modules()}
        state, device = np.random.get_state(), next(model.parameters()).device
        try:
            with (
                warnings.catch_warnings(),
                torch.random.fork_rng([device] if device.type == "cuda" else []),
            ):
                warnings.filterwarnings("ignore", r"\s*Setting (forward, )?backward hooks")
                warnings.filterwarnings("ignore", "Minimum element in feature mask")
                torch.manual_seed(seed)
                np.random.seed(seed % 2**32)
                yield
        except torch.OutOfMemoryError:
            raise
        except (ArithmeticError, AssertionError, ImportError, LookupError, RuntimeError,
                TypeError, ValueError, AttributeError) as error:  # fmt: skip
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"captum.attr.{self.name} cannot explain {type(model).__name__}: {reason}; take "
                "another method, such as explain/method=deeplift or integrated_gradients"
            ) from error
        finally:
            np.random.set_state(state)
            # Captum leaves these on modules that no gradient reaches.
            for module, names in before.items():
                for name in {"input", "output", "input_ref"} & (set(vars(module)) - names):
                    delattr(module, name)

    def _valid(self, key: str, name: str, value: Any) -> Any:
        function = self.type.__init__ if name in self.init else self.type.attribute
        try:
            hint = get_type_hints(function).get(name, Any)
            adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        except (NameError, TypeError, ValueError):  # an annotation that only a type checker reads
            return value
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(f"{key}.kwargs.{name}: {value!r} is not allowed; {reason}") from None


def captum_classes(family: Family) -> dict[str, type[Any]]:
    """The classes of `captum.attr` that are built from a model alone, or a model and a layer."""
    import captum.attr

    found = {}
    for name, each in vars(captum.attr).items():
        if not inspect.isclass(each) or not callable(getattr(each, "attribute", None)):
            continue
        parameters = [*inspect.signature(each.__init__).parameters.values()][1:]
        required = [p.name for p in parameters if p.default is p.empty]
        layer = family != "input" and required[1:] == ["layer"]
        fits = required[:1] in (["forward_func"], ["model"]) and (layer or not required[1:])
        is_neuron = name.startswith("Neuron")
        if fits and layer == (family != "input") and is_neuron == (family == "neuron"):
            found[name] = each
    found.pop("GuidedGradCam", None)  # of images
    return dict(sorted(found.items()))


class LogitModule(nn.Module):
    """The logit (B,) of the rows of a view, as a module of a mask (B, P) or of inputs (B, L)."""

    def __init__(self, view: MaskedModel, kind: Literal["mask", "inputs"]) -> None:
        super().__init__()
        self.model, self.view, self.on_mask = view.model, view, kind == "mask"
        self.shapes = [part.shape[1:] for part in view.inputs[:3]]
        if self.on_mask:
            self.start = view.inputs.dense.new_ones(view.rows, view.size)
            self.end = torch.zeros_like(self.start)
        else:
            self.start, self.end = self._flat(view.inputs), self._flat(view.masked_out)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """The logits; `rows` (B,) are the rows of the view that x stands for."""
        inputs = Inputs(*(part[rows] for part in self.view.inputs))
        if self.on_mask:
            baseline = Inputs(*(part[rows] for part in self.view.baseline))
            inputs = self.view.feature_mask.apply(x, inputs, baseline)
        else:
            inputs = self._inputs(x, inputs.steps)
        return self.model.task_logits(inputs)[:, self.view.task]

    @property
    def feature_mask(self) -> Tensor:
        """(1, P) or (1, L): the feature of each input; P for values in none."""
        if self.on_mask:
            return torch.arange(self.view.size, device=self.start.device).unsqueeze(0)
        ids = self.view.feature_mask.feature_ids[: self.start.shape[1]]
        return ids.where(ids >= 0, self.view.size).unsqueeze(0)

    def by_feature(self, values: Tensor, *, one_each: bool) -> Tensor:
        """(B, P): attributions of the inputs by feature, each once or summed over its values."""
        if self.on_mask:
            return values
        steps = torch.zeros_like(self.view.inputs.steps)
        mask = self.view.feature_mask
        total = mask.sum_by_feature(self._inputs(values, steps))
        if not one_each:
            return total
        return total / mask.sum_by_feature(self._inputs(torch.ones_like(values), steps))

    def _flat(self, inputs: Inputs) -> Tensor:
        return torch.cat([part.detach().flatten(1) for part in inputs[:3]], 1)

    def _inputs(self, flat: Tensor, steps: Tensor) -> Inputs:
        parts = flat.split([shape.numel() for shape in self.shapes], 1)
        each = zip(parts, self.shapes, strict=True)
        dense, fields, history = (part.unflatten(1, shape) for part, shape in each)
        return Inputs(dense, fields, history, steps)


@contextmanager
def hook_point(logit: nn.Module, module: nn.Module, call: int) -> Iterator[nn.Module]:
    """A module that passes on the output of another at its n-th call of each forward pass.

    Captum's hooks on a module that is called once a time step would see the last step alone.
    """
    point, calls = nn.Identity(), [0]

    def count(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        calls[0] += 1
        return point(output) if calls[0] == call + 1 else output

    def restart(_module: nn.Module, _inputs: object) -> None:
        calls[0] = 0

    handles = module.register_forward_hook(count), logit.register_forward_pre_hook(restart)
    try:
        yield point
    finally:
        for handle in handles:
            handle.remove()
