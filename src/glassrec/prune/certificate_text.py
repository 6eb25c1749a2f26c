"""A certificate as Markdown that also reads well in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from textwrap import fill

from glassrec.artifacts import Certificate, CertifiedLayer

WIDTH = 100


def in_short(names: Iterable[str]) -> str:
    """All names of neurons, those that differ by a number alone together.

    `top.0[3], top.0[4], top.0[5], C3×C14` is `top.0[3-5], C3×C14`.
    """
    numbers: dict[str, list[int]] = {}
    for name in names:
        if numbered := re.fullmatch(r"(.+)\[(\d+)\]", name):
            numbers.setdefault(numbered[1], []).append(int(numbered[2]))
        else:
            numbers[name] = []
    return ", ".join(f"{n}[{_ranges(units)}]" if units else n for n, units in numbers.items())


def _ranges(units: Sequence[int]) -> str:
    """`0-2, 5` of 0, 1, 2, 5."""
    runs = [
        [unit for _, unit in run]
        for _, run in groupby(enumerate(sorted(units)), key=lambda at: at[1] - at[0])
    ]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def text(certificate: Certificate) -> str:
    """The whole certificate; the first sentence is the guarantee."""
    parts = [
        ["# Pruning certificate"],
        [fill(proven(certificate), WIDTH)],
        ["## Pruned neurons", "", *_pruned(certificate)],
        ["## Comparison", "", *_compared(certificate)],
        ["## Files and data (sha256)", "", *_hashes(certificate)],
        [f"Made with {', '.join(f'{n} {v}' for n, v in certificate.versions.items())}."],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def proven(certificate: Certificate) -> str:
    """The guarantee of a certificate, as one sentence."""
    rows, changed = sum(certificate.rows.values()), certificate.rows_changed
    largest = f"{certificate.max_abs_logit_difference:.2g}"
    if not certificate.exact and changed:
        return f"Not exact: {changed:,} of {rows:,} rows changed, by at most {largest}."
    close = (
        f"the logits of all {rows:,} rows differ by at most {largest} in float64, where up to "
        f"{certificate.tolerance:.2g} is rounding."
    )
    if not certificate.exact:
        return f"Equal on every row, though not proven by the level: {close}"
    if not any(layer.count for layer in certificate.layers.values()):
        return f"Nothing was pruned; equal on every row: {close}"
    every = "for every possible input" if certificate.level == "domain" else "on every row"
    return f"Equal {every}: {close}"


def of_all_pairs(certificate: Certificate) -> str:
    """The comparison of all users and items, in a sentence; empty where there is none."""
    if (found := certificate.all_pairs) is None:
        return ""
    return (
        f"on all {found.users * found.items:,} pairs of user and item, unseen ones included, a "
        f"logit changes by at most {found.max_abs_logit_difference:.2g} (user {found.user}, item "
        f"{found.item}); the first ten of all items stay the same for {found.same_members:.1%} of "
        f"users, in the same order for {found.same_order:.1%}"
    )


def of_int8(certificate: Certificate) -> str:
    """The measurement of the int8 copy, in a sentence; empty where there is none."""
    if (found := certificate.int8) is None:
        return ""
    lists = ", ".join(f"{name} {share:.4f}" for name, share in found.agreement.items())
    return (
        f"the int8 copy is not exact: on {found.rows:,} test rows a logit differs from the trained "
        f"model's by {found.mean_abs_logit_difference:.2g} on average, by at most "
        f"{found.max_abs_logit_difference:.2g}; {lists or 'no list of more than ten'}; "
        f"{found.bytes:,} bytes"
    )


def _pruned(certificate: Certificate) -> Iterator[str]:
    layers = certificate.layers
    pruned = sum(layer.count for layer in layers.values())
    before = sum(layer.before for layer in layers.values())
    ground = f": {certificate.ground}" if certificate.ground else ""
    whole = [name for name, layer in layers.items() if not layer.count]
    kept = f" All neurons are kept in {', '.join(whole)}." if whole else ""
    yield fill(
        f"{pruned:,} of {before:,} neurons were pruned at level {certificate.level}{ground}.{kept}",
        WIDTH,
    )
    for name, layer in layers.items():
        if layer.count:
            yield from _of_layer(name, layer)


def _of_layer(name: str, layer: CertifiedLayer) -> Iterator[str]:
    built = f" (built with {layer.built:,})" if layer.built != layer.before else ""
    yield f"\n- {name}: {layer.count:,} of {layer.before:,} neurons{built}"
    for group in layer.gone:
        if group.count > 1 or not group.constant:
            yield _item(f"{group.level}, replaced by {group.constant:.6g}: {group.units}")
    for level in dict.fromkeys(group.level for group in layer.gone):
        own = [g for g in layer.gone if g.level == level and g.count == 1 and g.constant]
        if own:
            each = ", ".join(f"{group.units} by {group.constant:.6g}" for group in own)
            yield _item(f"{level}, each replaced by its own constant: {each}")


def _item(line: str) -> str:
    return fill(
        line, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False
    )


def _compared(certificate: Certificate) -> Iterator[str]:
    splits = ", ".join(f"{name} {count:,}" for name, count in certificate.rows.items())
    yield f"- rows: {sum(certificate.rows.values()):,} ({splits})"
    yield f"- largest |logit|: {certificate.max_abs_logit:.3g}"
    yield f"- largest |Δlogit|: {certificate.max_abs_logit_difference:.3g}"
    yield f"- 99.9th percentile: {certificate.p999_abs_logit_difference:.3g}"
    yield (
        f"- rows changed by more than the tolerance of {certificate.tolerance:.3g}, which is 1e-9 "
        f"of the largest |logit| or unit: {certificate.rows_changed:,}"
    )
    for more in filter(None, (of(certificate) for of in (of_all_pairs, of_bound, of_int8))):
        yield fill(f"- {more}", WIDTH, subsequent_indent="  ")


def _hashes(certificate: Certificate) -> Iterator[str]:
    groups = {
        "file": certificate.files,
        "tensors": {"large": certificate.weights, "pruned": certificate.pruned},
        "rows": certificate.splits,
        **{f"given as {kind}": hashes for kind, hashes in certificate.given.items()},
    }
    for kind, hashes in groups.items():
        yield from (f"- {found} {kind} {name}" for name, found in hashes.items())


def of_bound(certificate: Certificate) -> str:
    """The proven bound of the change, in a sentence; empty where there is none."""
    if (found := certificate.change_bound) is None:
        return ""
    measured = max(found.random_max, certificate.max_abs_logit_difference)
    return (
        "for any ids, and dense columns within their range on the rows, no logit changes by more "
        f"than {found.bound:.3g}, a proven bound; the largest measured change is {measured:.3g}, "
        f"which {found.random_rows:,} random inputs are part of"
    )
