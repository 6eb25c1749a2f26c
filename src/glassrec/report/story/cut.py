"""What was cut, what that promises, and what it changed."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

from glassrec.artifacts import Certificate
from glassrec.metrics.metadata import IN_UNIT, format_metric, primary_metrics
from glassrec.prune.certificate_text import proven
from glassrec.report.formatting import COSTS, fixed, format_value, minus, percent, whole
from glassrec.report.statements import curve_metric, pruning_statements, split_metric
from glassrec.report.story.found import Found
from glassrec.report.story.parts import Bar, Bars, Listing, More, Part, Section, Sentences, Shown
from glassrec.report.story.words import metric, written

PROMISES = {
    "domain": "A neuron goes only if it emits the same whatever may come in, or if nobody reads "
    "it. Its constant is added to what reads it, so the smaller model is equal for every input.",
    "data": "A neuron goes only if it emits the same on every row of every split. Its constant is "
    "added to what reads it, so the smaller model is equal on all of these rows. On a row that is "
    "unlike all of them, a neuron that is gone might have spoken.",
    "sample": "A neuron goes if it had no effect on the explained rows. That is no proof: it may "
    "have one elsewhere, and the comparison below says on how many rows.",
    "budget": "Neurons go in the order of their worth until the budget is met. Nothing is promised "
    "about a single row; the comparison below says what changed.",
}
"""What each level promises."""


def cut(found: Found) -> Section | None:
    """The cut and its certificate, and what it changed."""
    certificate, plan = found.certificate, found.plan
    if certificate is None or plan is None:
        return None
    level = f"level {certificate.level}" + (f", ranked by {plan.score}" if plan.score else "")
    parts: list[Part] = [
        Sentences([f"The cut was made at {level}. {PROMISES[certificate.level]}", *_kept(found)]),
        *([_layers(certificate)] if certificate.layers else []),
        *_before_and_after(found),
        *_curves(found),
        More("The certificate: which neurons went, and what was compared", _details(certificate)),
    ]
    return Section("cut", "The cut and its certificate", proven(certificate), parts)


def gone(certificate: Certificate) -> tuple[int, int]:
    """How many neurons went, and how many there were."""
    layers = certificate.layers.values()
    return sum(layer.count for layer in layers), sum(layer.before for layer in layers)


def cheaper(found: Found, name: str) -> str:
    """The change of a cost, `−30.5 %`; nothing where it is not known."""
    before, after = found.numbers.get(name), found.numbers.get(f"pruned/{name}")
    if not before or after is None:
        return ""
    return minus(f"{after / before - 1:+z.1%}").replace("%", " %")


def telling(found: Found) -> list[str]:
    """The metrics of the test split that tell most, without the name of the split."""
    return primary_metrics(
        [n.removeprefix("test/") for n in found.numbers if n.startswith("test/")]
    )


def _kept(found: Found) -> Iterator[str]:
    """Why layers keep what might go."""
    assert found.plan is not None, "there is a cut"
    for name, layer in found.plan.layers.items():
        if layer.stays:
            share = "one" if layer.constants else "all"
            yield f"{name} keeps {share} of its neurons: {layer.stays}."
    refuted = sum(layer.refuted for layer in found.plan.layers.values())
    if refuted:
        yield (
            f"Of the neurons that were silent on the explained rows, {whole(refuted)} "
            f"stay{'s' * (refuted == 1)}: elsewhere they do something."
        )


def _layers(certificate: Certificate) -> Bars:
    bars = []
    for name, layer in certificate.layers.items():
        kept = layer.before - layer.count
        bars.append(Bar(name, kept / layer.built, f"{whole(kept)} of {whole(layer.built)}"))
    caption = "The neurons of each layer that are kept, from the input to the output."
    return Bars("What is left of each layer", bars, caption)


def _before_and_after(found: Found) -> Iterator[Part]:
    """Quality and cost of both models."""
    numbers, names = found.numbers, telling(found)
    if not names:
        return
    yield Listing(
        "Quality on the test split",
        ["metric", "as trained", "pruned", "change (95 % interval)"],
        [[metric(name), *_both(found, f"test/{name}"), _change(found, name)] for name in names],
    )
    costs = [(n, *COSTS[n]) for n in COSTS if numbers.get(n)]
    yield Listing(
        "Cost",
        ["", "as trained", "pruned", "change"],
        [[called, form(numbers[n]), form(numbers[f"pruned/{n}"]), cheaper(found, n)]
         for n, called, form in costs],
    )  # fmt: skip
    yield More("All metrics, and the same as a picture", [*_all_metrics(found)])


def _all_metrics(found: Found) -> Iterator[Part]:
    numbers = found.numbers
    every = [n for n in numbers if n.startswith("test/") and f"pruned/{n}" in numbers]
    rows = [[metric(name), *_both(found, name)] for name in every]
    yield Listing("On the test split", ["metric", "as trained", "pruned"], rows)
    if "before_and_after" in found.pictures:
        yield Shown(
            found.pictures["before_and_after"],
            "bars of quality and cost before and after the cut, and of what is left of layers",
            "Quality, cost and size of both models.",
        )


def _both(found: Found, name: str) -> tuple[str, str]:
    before, after = found.numbers[name], found.numbers[f"pruned/{name}"]
    return written(name, before), written(name, after)


def _change(found: Found, name: str) -> str:
    """The change with its interval."""
    ends = (f"pruned/test/{name}_change{end}" for end in ("", "_low", "_high"))
    change, low, high = (found.numbers.get(end, float("nan")) for end in ends)
    if name.rpartition("/")[2] in IN_UNIT:
        size = found.numbers[f"test/{name}"]
        said = [minus(format_metric(name, value, size)) for value in (change, low, high)]
    else:
        said = [fixed(value) for value in (change, low, high)]
    return said[0] if isnan(low) else f"{said[0]} ({said[1]} to {said[2]})"


def _curves(found: Found) -> Iterator[Part]:
    """What more of a cut would cost."""
    frame = found.table("pruning_curves")
    if len(frame) and "pruning_curves" in found.pictures:
        name = curve_metric(frame)
        (raw, split), called = split_metric(name), metric(name)
        told = [line.replace(raw, called) for line in pruning_statements(frame, name)[:2]]
        yield Sentences(
            [f"{line[0].upper()}{line[1:]}." for line in told], "What if more were cut?"
        )
        yield Shown(
            found.pictures["pruning_curves"],
            "lines of a metric against the share of neurons that is cut, one for each score",
            f"{called} on the {split} split against the share of each layer that is cut, by "
            "several importance scores. A good score stays near the uncut model for long.",
        )


def _details(certificate: Certificate) -> list[Part]:
    """All that the certificate says."""
    units = [
        [name, gone.level, format_value(gone.constant), gone.units, whole(gone.count)]
        for name, layer in certificate.layers.items()
        for gone in layer.gone
    ]
    compared = [[f"rows: {name}", whole(count)] for name, count in certificate.rows.items()]
    compared += [
        ["largest |logit|", format_value(certificate.max_abs_logit)],
        ["largest |Δlogit|", format_value(certificate.max_abs_logit_difference)],
        ["99.9th percentile", format_value(certificate.p999_abs_logit_difference)],
        [f"rows changed by more than {certificate.tolerance:.3g}", whole(certificate.rows_changed)],
    ]
    what = ["layer", "level", "replaced by", "neurons", "how many"]
    found: list[Part] = [Listing("What was compared, in float64", ["", ""], compared)]
    return [Listing("What went", what, units, texts=4), *found] if units else found


def certified(certificate: Certificate) -> list[list[str]]:
    """What the certificate is about, and its sha256."""
    groups = {
        "": certificate.files,
        "rows of ": certificate.splits,
        **{f"given as {kind}: ": hashes for kind, hashes in certificate.given.items()},
    }
    return [
        [f"{kind}{name}", sha256]
        for kind, hashes in groups.items()
        for name, sha256 in hashes.items()
    ]


def saved(found: Found) -> str:
    """What the smaller model saves, in words."""
    parts = {name: cheaper(found, name) for name in ("parameters", "flops")}
    words = {"parameters": "parameters", "flops": "FLOPs a row"}
    said = [f"{words[n]} {share}" for n, share in parts.items() if share and share[0] == "−"]
    return " and ".join(said)


def share(certificate: Certificate) -> str:
    """The share of the neurons that went."""
    went, there = gone(certificate)
    return percent(went / there) if there else percent(0.0)
