"""Verify: a finished run computed anew from its files alone, and whatever differs.

The certificate is proven here; what the other files claim is computed again in `recompute`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from pyarrow import ArrowException
from torch import Tensor

from glassrec.artifacts import Artifact, Certificate, PrunePlan, Text, Weights
from glassrec.prune.certificate import TOLERANCE, BrokenPromiseError, data_digests, versions
from glassrec.prune.certificate_text import text
from glassrec.run import flat, sha256
from glassrec.stages.evaluate import Evaluating
from glassrec.stages.prune import CERTIFIED
from glassrec.stages.recompute import Checking, Recomputation, differing
from glassrec.stages.sealed import Sealed
from glassrec.stages.stage import Stage

ELSEWHERE = ("given", "splits", "versions")
"""The parts of a certificate that the comparison leaves to other checks."""

ROUNDING = 2 * TOLERANCE
"""By how much a difference of logits may differ between machines, relative to the largest |logit|
or to 1. A sum in another order moves a logit by less than `TOLERANCE`; a difference is of two."""

UNREADABLE = (RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, ArrowException)
"""What calculations raise on values that no run has written."""

FOLDED = 1e-12
"""By how much, relative to its size or to 1, a bias in float64 may differ between machines: it took
over constants in a sum of some thousand products at most, each of which is rounded at 1e-16."""


class Verifying(Stage):
    """The checks of a run that is only read; each says what it found, or what differs."""

    name: ClassVar[str] = "verify"

    def __init__(self, evaluating: Evaluating, given: Callable[[], dict[str, Any]]) -> None:
        super().__init__(evaluating.settings, evaluating.log, evaluating.given)
        self.trained, self._given = evaluating.trained, given
        self.recomputation = Recomputation(evaluating)

    def tell(self) -> list[str]:
        """Make all checks, and return what differs; nothing if everything is as recorded."""
        changed = _problems(self._files)
        checks = [self._described, self._keys, self._outside, self._laid_out]
        problems = changed + [problem for check in checks for problem in _problems(check)]
        try:
            self.trained.dataset  # noqa: B018  read once, also if it cannot be
        except (ValueError, OSError) as error:
            problems.append(f"{error}; so the cut, the comparison and the metrics were not checked")
        else:
            checks = [self._rows, self._cut, self._comparison]
            if not changed:  # what a damaged file holds is not worth reading
                checks += [partial(self._recomputed, name) for name in Recomputation.checks]
                checks.append(self._unchecked)
            problems += [problem for check in checks for problem in _problems(check)]
        if not problems:
            self.say("everything is as recorded")
        return [*dict.fromkeys(problems)]

    @property
    def sealed(self) -> Sealed:
        """The directory."""
        assert isinstance(self.run, Sealed), "nothing is written"
        return self.run

    @cached_property
    def certificate(self) -> Certificate:
        """As it lies there."""
        return self.sealed.read("certificate.json", Certificate)

    @cached_property
    def plan(self) -> PrunePlan:
        """As it lies there."""
        return self.sealed.read("plan.json", PrunePlan)

    @cached_property
    def pruned(self) -> Weights:
        """As they lie there."""
        return self.sealed.read("pruned.safetensors", Weights)

    def _files(self) -> Iterator[str]:
        """The record: every file it names, and those of a proof among them."""
        recorded = self.sealed.recorded
        needed = (*CERTIFIED, "certificate.json", "certificate.md")
        missing = [name for name in needed if name not in recorded]
        yield from (f"{name} is not in record.json; run `glassrec prune` first" for name in missing)
        yield from self._told(
            self.sealed.strange_files(), f"{len(recorded)} files have the sha256 that is recorded"
        )

    def _described(self) -> Iterator[str]:
        """Where the run comes from, and how it ended."""
        yield from self._told(
            self.sealed.strange_descriptions(self.certificate.versions.get("glassrec", "")),
            "config.yaml, provenance.json and status.json are as they were written",
        )

    def _recomputed(self, name: str) -> Iterator[str]:
        """What a file claims, computed again."""
        problems, line = list[str](), ""
        check: Checking = getattr(self.recomputation, name)()
        try:
            while True:
                problems.append(next(check))
        except StopIteration as end:
            line = end.value
        if line or problems:
            yield from self._told(problems, line)

    def _unchecked(self) -> Iterator[str]:
        """What is known by its hash alone, or not at all."""
        if names := self.recomputation.by_hash():
            self.say(f"checked by their hash alone: {names}")
        if names := ", ".join(self.sealed.unknown_files()):
            self.say(f"not checked, as they are no files of the run: {names}")
        yield from ()

    def _keys(self) -> Iterator[str]:
        """What the artifacts were made of."""
        certificate = self.certificate
        version = certificate.versions.get("glassrec", "")
        strange = [*self.sealed.strange_keys(certificate.given, version)]
        names = ", ".join(strange[:3]) + (f" and {len(strange) - 3} more" if strange[3:] else "")
        yield from self._told(
            [f"not made of what config.yaml and record.json say: {names}"] if strange else [],
            "each was made with the settings of config.yaml, and of the others as they are",
        )

    def _outside(self) -> Iterator[str]:
        """The files that came from outside."""
        found, recorded = flat(self._given()), flat(self.certificate.given)
        files = sum(isinstance(value, str) for value in found.values())
        yield from self._told(
            differing("what came from outside", recorded, found),
            f"{files} files from outside have the sha256 that is certified"
            if files
            else "nothing came from outside",
        )

    def _laid_out(self) -> Iterator[str]:
        """Whether JSON and text say the same, byte for byte."""
        certificate = self.certificate
        written = {
            "plan.json": self.plan,
            "certificate.json": certificate,
            "certificate.md": Text(text(certificate)),
        }
        strange = [
            n for n, artifact in written.items() if not _is_written(self.run.dir / n, artifact)
        ]
        yield from self._told(
            (f"{name} has been edited: it is not what Glassrec writes" for name in strange),
            "certificate.md says what certificate.json says",
        )

    def _rows(self) -> Iterator[str]:
        """The rows that the data gives."""
        dataset = self.trained.dataset
        rows = sum(split.batch.rows for split in dataset.splits.values())
        yield from self._told(
            differing("the rows of the data", self.certificate.splits, data_digests(dataset)),
            f"{rows:,} rows in {len(dataset.splits)} splits are those that are certified",
        )

    def _cut(self) -> Iterator[str]:
        """The cut, made again."""
        if self.plan.finetuned:
            self.say("the weights were trained on after the cut, which is not made again")
            return
        found = self.settings.prune.prune(self.trained.exact, self.plan)
        exact, problems = _same_tensors(self.pruned.tensors, found.tensors)
        yield from self._told(
            problems,
            "the plan cuts weights.safetensors to pruned.safetensors, "
            + ("bit for bit" if exact else "up to rounding"),
        )

    def _comparison(self) -> Iterator[str]:
        """Both models on all rows, and everything else that the certificate says."""
        found = self.settings.prune.certify(
            self.trained.exact,
            self.pruned,
            self.plan,
            self.trained.dataset,
            files={name: sha256(self.run.dir / name) for name in CERTIFIED},
            given=self.certificate.given,
        )
        told, recorded = (
            {k: v for k, v in flat(asdict(each)).items() if k.split(".")[0] not in ELSEWHERE}
            for each in (found, self.certificate)
        )
        yield from self._told(
            differing("certificate.json", recorded, told, partial(_rounding, found.max_abs_logit)),
            f"on all {sum(found.rows.values()):,} rows the logits of both models differ by at most "
            f"{found.max_abs_logit_difference:.2g}, as certified",
        )
        if self.certificate.versions != versions():
            self.say(f"certified with {self.certificate.versions}, verified with {versions()}")

    def _told(self, problems: Iterable[str], line: str) -> Iterator[str]:
        """Hand the problems on, and say the line if there are none."""
        found = [*problems]
        if not found:
            self.say(line)
        yield from found


def _problems(check: Callable[[], Iterator[str]]) -> list[str]:
    """What a check found; what a damaged file raises is a problem too."""
    found: list[str] = []
    try:
        found.extend(check())
    except (ValueError, OSError, BrokenPromiseError) as error:
        found.append(str(error))
    except UNREADABLE as error:  # files that can be read, and make no sense
        found.append(f"the run cannot be computed again: {type(error).__name__}: {error}")
    return found


def _rounding(size: float, name: str, _: object) -> float:
    """By how much a fact of a certificate may differ, where logits are of some size."""
    return ROUNDING * max(1.0, size) * (TOLERANCE if name == "tolerance" else 1)


def _is_written(path: Path, artifact: Artifact) -> bool:
    """Whether a file is, byte for byte, what an artifact writes."""
    with TemporaryDirectory() as folder:
        again = Path(folder, path.name)
        artifact.save(again)
        return again.read_bytes() == path.read_bytes()


def _same_tensors(
    recorded: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> tuple[bool, list[str]]:
    """Whether tensors are the same to the bit, and those that differ by more than rounding."""
    names = recorded.keys() | found.keys()
    differ = [n for n in sorted(names) if not _identical(recorded.get(n), found.get(n))]
    wrong = [n for n in differ if not _close(recorded.get(n), found.get(n))]
    return not differ, [f"pruned.safetensors: {name} is not what the plan cuts" for name in wrong]


def _identical(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.dtype != other.dtype:
        return False
    return torch.equal(one, other)


def _close(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two biases, of which one took over constants, are equal but for rounding."""
    if one is None or other is None or one.shape != other.shape:
        return False
    if torch.float64 not in (one.dtype, other.dtype):
        return False
    return torch.allclose(one.double(), other.double(), rtol=FOLDED, atol=FOLDED)
