"""Consumers of prunable layers, which fold constants of pruned neurons, and the unit of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.data.schema import Target


@runtime_checkable
class Consumer(Protocol):
    """A module that reads the activations of a layer, as one of several parts side by side."""

    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` neurons of a part, and fold the constants (U,) of the others."""

    def reads(self, part: int) -> Tensor:
        """(U,) bool: whether a neuron of a part has any effect; () if the same holds for all."""

    def folds(self, constants: Tensor) -> Tensor:
        """(U,) bool: which neurons can be pruned exactly if each is always at its constant (U,)."""
        return torch.ones_like(constants, dtype=torch.bool)

    def weights(self, part: int) -> list[Tensor]:
        """Views (..., U) of the weights on each neuron of a part; none where it has no weights."""
        return []


class Affine(nn.Module, Consumer):
    """y = W [x₁; x₂; …] + b over parts laid side by side: (B, sum of parts) to (B, out)."""

    parts: Tensor

    def __init__(self, parts: Sequence[int], out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, sum(parts)))
        self.bias = nn.Parameter(torch.zeros(out))
        self.register_buffer("parts", torch.tensor(list(parts)))
        self.register_load_state_dict_pre_hook(shrink_to)
        nn.init.xavier_uniform_(self.weight)

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, out)."""
        joined = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        if joined.shape[-1] != self.weight.shape[1]:
            raise ValueError(
                f"a layer that reads widths {self.parts.tolist()} got "
                f"{[part.shape[-1] for part in parts]}; correct them in the model"
            )
        return F.linear(joined, self.weight, self.bias)

    def weights(self, part: int) -> list[Tensor]:
        """The columns (out, U) of a part."""
        return [self._split(part)[1]]

    def reads(self, part: int) -> Tensor:
        """(U,): whether the column of a neuron has a weight that is not zero."""
        return (self.weights(part)[0] != 0).any(0)

    @torch.no_grad()
    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` neurons of a part; W · constants of the others moves into b."""
        before, own, after = self._split(part)
        width = own.shape[1]
        assert constants.shape == (width,), "one constant for each neuron that was read"
        dropped = torch.ones(width, dtype=torch.bool, device=kept.device)
        dropped[kept] = False
        self.bias.add_(own[:, dropped] @ constants[dropped].to(own))
        replace(self, "weight", torch.cat([before, own[:, kept], after], 1))
        self.parts[part] = len(kept)

    @torch.no_grad()
    def keep_outputs(self, kept: Tensor) -> None:
        """Compute only the `kept` outputs."""
        replace(self, "weight", self.weight[kept].clone())
        replace(self, "bias", self.bias[kept].clone())

    @torch.no_grad()
    def spread_inputs(self, part: int, places: Tensor, width: int) -> None:
        """Read a part of another `width`, whose numbers at `places` (U,) are those read so far."""
        before, own, after = self._split(part)
        if width == own.shape[1]:
            return  # the places are all there are, in order
        wide = own.new_zeros(len(own), width).index_copy(1, places, own)
        replace(self, "weight", torch.cat([before, wide, after], 1))
        self.parts[part] = width

    @torch.no_grad()
    def spread_outputs(self, constants: Tensor, places: Tensor) -> None:
        """Give `constants` (width,), but at `places` (U,) the outputs that were given so far."""
        if len(constants) == len(places):
            return
        wide = self.weight.new_zeros(len(constants), self.weight.shape[1])
        replace(self, "weight", wide.index_copy(0, places, self.weight))
        replace(self, "bias", constants.to(self.bias).index_copy(0, places, self.bias))

    def _split(self, part: int) -> tuple[Tensor, ...]:
        """The columns before a part, its own, and those behind it."""
        start = int(self.parts[:part].sum())
        return self.weight.tensor_split([start, start + int(self.parts[part])], dim=1)


class Output(Affine):
    """The affine map to the scores of K tasks."""

    def __init__(self, parts: Sequence[int], targets: Sequence[Target]) -> None:
        super().__init__(parts, len(targets))


def task_biases(targets: Sequence[Target]) -> nn.Parameter:
    """One bias (K,) a task, 0 at first. It is fixed if all are retrievals: it cancels in a softmax.

    Scores of ratings are in standard units, so 0 is the mean rating.
    """
    trained = any(target.kind != "retrieval" for target in targets)
    return nn.Parameter(torch.zeros(len(targets)), requires_grad=trained)


class Total(nn.Module, Consumer):
    """y = Σ x + b, with one b a task: (B, U) to (B, K).

    In a folded copy `mask` (K, width) has zeros for numbers that arrive and are not added.
    """

    mask: Tensor | None = None

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self.bias = task_biases(targets)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K)."""
        if self.mask is not None:
            return F.linear(x, self.mask, self.bias)
        return x.sum(1, keepdim=True) + self.bias

    def reads(self, part: int) -> Tensor:
        """(): every neuron counts."""
        return torch.ones((), dtype=torch.bool, device=self.bias.device)

    @torch.no_grad()
    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Add the constants of the neurons that are not `kept` to the bias."""
        assert part == 0, "there is one part"
        pruned = torch.ones(len(constants), dtype=torch.bool, device=kept.device)
        pruned[kept] = False
        self.bias.add_(constants[pruned].sum().to(self.bias))


def shrink_to(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before loading: give the module's own tensors the smaller shapes of `state`, never larger
    ones.
    """
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for name, tensor in own:
        given = state.get(prefix + name)
        if given is None or given.ndim != tensor.ndim or given.shape == tensor.shape:
            continue
        if all(new <= old for new, old in zip(given.shape, tensor.shape, strict=True)):
            replace(module, name, tensor.new_empty(given.shape))


def refuse_another_size(module: Any, state: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
    """Before loading a layer: report weights of one that was built with more or fewer neurons."""
    built, errors = state.get(f"{prefix}built"), rest[-1]
    if built is not None and int(built) != module.size:
        errors.append(
            f"{prefix[:-1]} was built with {int(built)} neurons there, {module.size} here"
        )


def replace(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter or buffer by one of another shape, on the same device."""
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        value = nn.Parameter(value, requires_grad=old.requires_grad)
    setattr(module, name, value)


class TargetScale(nn.Module):
    """The affine map between the scores of K tasks and their estimates.

    The score of a rating is in standard units: mean 0 and deviation 1 over the training rows, so
    that learning rates suit any unit. Clicks and retrievals stay as they are. Mean and deviation
    are saved with the weights: a model keeps the unit that it was trained in.
    """

    mean: Tensor
    """(K,)"""
    deviation: Tensor
    """(K,), above 0"""

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self.tasks = len(targets)
        self.identity = all(target.kind != "rating" for target in targets)
        if not self.identity:
            self.register_buffer("mean", torch.tensor([target.mean for target in targets]))
            deviations = [target.deviation for target in targets]
            self.register_buffer("deviation", torch.tensor(deviations))

    @property
    def units(self) -> Tensor:
        """(K,): one standard unit of each task, in the unit of its estimates; 1 but for ratings."""
        return torch.ones(self.tasks) if self.identity else self.deviation

    def forward(self, scores: Tensor) -> Tensor:
        """The estimates (B, K) in the unit of the data, from scores (B, K)."""
        return scores if self.identity else scores * self.deviation + self.mean

    def standardized(self, targets: Tensor) -> Tensor:
        """The targets (B, K) in the unit of the scores, from those of the data (B, K)."""
        return targets if self.identity else (targets - self.mean) / self.deviation

    def conversion_from(self, other: TargetScale) -> tuple[Tensor, Tensor]:
        """Factor and shift (K,), by which a score in the other scale has the same estimate in this
        one.
        """
        if self.identity:
            return torch.ones(self.tasks), torch.zeros(self.tasks)
        factor = other.deviation / self.deviation
        return factor, (other.mean - self.mean) / self.deviation
