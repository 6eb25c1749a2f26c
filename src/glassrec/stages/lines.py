"""The results of the stages in lines for the terminal; each says no more than was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import nan
from typing import Any

from glassrec.artifacts import file_list as files
from glassrec.data.dataset_metadata import repeats_line
from glassrec.metrics.cost import SIZES, ratio_lines
from glassrec.metrics.evaluation import TOP
from glassrec.metrics.metadata import format_metric
from glassrec.prune.certificate_text import of_all_pairs, of_bound, of_int8
from glassrec.prune.pruner import Pruner
from glassrec.report import statements
from glassrec.report.formatting import minus
from glassrec.spelling import brief, counted
from glassrec.stages.evaluate import EvaluateResult
from glassrec.stages.explain import ExplainResult
from glassrec.stages.export import ExportResult
from glassrec.stages.prune import PruneResult
from glassrec.stages.train import TrainResult

UNSTABLE = 0.7
"""The rank correlation of two seeds below which a sampled result is called unstable."""


def repeats(facts: Mapping[str, Any], policy: str | None) -> Iterator[str]:
    """Held-out positives that their users have in training, if any; `policy` is `data.repeats`."""
    if line := repeats_line(facts):
        yield line + ("; with data.repeats=drop all are new" if policy == "keep" else "")


def train_lines(result: TrainResult) -> Iterator[str]:
    """Epochs and size."""
    kept = "those of the best epoch on validation are kept" if result.epochs else "not trained"
    size = result.trained.weights.bytes / 2**10
    yield f"{counted(result.epochs, 'epoch')}, {size:,.0f} KiB of weights; {kept}"


def explain_lines(result: ExplainResult) -> Iterator[str]:
    """Those about the inputs first. Nothing is ranked where the logit is constant."""
    about = result.about
    rows = f"task {about.task}, {about.selection}"
    yield f"{rows}; {about.method}; baseline {about.baseline}"
    yield from _inputs(result)
    if not about.constant:
        at_baseline = f"{about.mean_baseline_logit:z.2f} at the baseline"
        yield f"the mean logit is {about.mean_logit:z.2f}, and {at_baseline}"
        yield from _trust(result)
    (inactive, never), count = statements.neuron_counts(result.neurons), len(result.neurons)
    found = f"{inactive:,} of {count:,} neurons have zero attribution"
    yield f"{found}, {never:,} have only negative ones"
    yield from _pairs(result)
    yield from _methods(result)
    yield from _truth(result)
    yield from _other_selection(result)


def _inputs(result: ExplainResult) -> Iterator[str]:
    about, importance = result.about, result.importance
    if nothing := statements.no_ranking(importance, about):
        yield nothing
    elif statements.tested(importance):
        names = statements.significant(importance)["player"].head(3)
        yield f"the largest significant effects: {', '.join(names)} (q < {statements.SIGNIFICANCE})"
    else:
        names = statements.with_effect(importance)["player"].head(3)
        yield f"the largest attributions: {', '.join(names)} (not tested against chance)"
    if idle := statements.without_effect(importance, about):
        yield idle
    if about.unread:
        model = result.trained.context.run.config["model"]["_target_"].rpartition(".")[2]
        yield f"{model} does not read {brief(about.unread)}"


def _trust(result: ExplainResult) -> Iterator[str]:
    about, settings = result.about, result.trained.context.settings.explain
    if about.complete:
        limit = f"explain.tolerance ({settings.tolerance:.1%})"
        if about.method != settings.method.name:
            yield f"{settings.method.name} exceeds {limit}; refined to {about.method}"
        error = f"the completeness error is {about.relative_delta:.2%} of the logit difference"
        advice = (
            "take another method, such as explain/method=shapley_sampling, or raise the tolerance"
        )
        yield error if about.trusted else f"not trusted: {error}, more than {limit}; {advice}"
    if about.agreement is not None:
        bad = about.agreement < UNSTABLE
        warning = ": unstable; take more samples or another method" if bad else ""
        yield f"two seeds agree at a rank correlation of {about.agreement:.2f}{warning}"


def _pairs(result: ExplainResult) -> Iterator[str]:
    """The strongest interaction, where other rows would give the same one."""
    pairs = result.pairs[result.pairs["mean_abs"] != 0]
    if len(pairs):
        strongest = pairs.iloc[0]
        names = f"{strongest['first']} × {strongest['second']}"
        unclear = f"no pair of inputs can be said to interact most; {names} have the largest mean"
        yield f"{names} interact most" if strongest["rank_high"] == 1 else unclear


def _methods(result: ExplainResult) -> Iterator[str]:
    judged, tolerance = result.methods, result.trained.context.settings.explain.tolerance
    for row in judged[judged["problem"] != ""].itertuples():
        yield f"{row.method} is left out: {row.problem}"
    judged = judged[judged["name"] != result.about.method]  # that one has been reported
    for row in judged[judged["complete"] & (judged["delta"] > tolerance)].itertuples():
        yield f"{row.method}: the completeness error is {row.delta:.1%} of the logit difference"
    for row in judged[judged["agreement"] < UNSTABLE].itertuples():
        yield f"{row.method}: two seeds agree at only {row.agreement:.2f}: unstable"


def _truth(result: ExplainResult) -> Iterator[str]:
    kinds = {"players": "inputs", "main": "main effects", "pairs": "pairs"}
    found = {
        words: result.truth.get(f"truth/{kind}_precision", nan) for kind, words in kinds.items()
    }
    # Not a number: there is none of the kind.
    shares = [f"{share:.0%} of {words}" for words, share in found.items() if share == share]
    if shares:
        yield f"known effects that rank at the top: {', '.join(shares)}"


def _other_selection(result: ExplainResult) -> Iterator[str]:
    """The input that differs most between two selections, where one does beyond its interval."""
    if result.other is None:
        return
    compared, about = result.other
    if result.about.constant and about.constant:
        return
    clear = compared[(compared["difference_low"] > 0) | (compared["difference_high"] < 0)]
    if clear.empty:
        yield f"against {about.selection}: no input differs beyond its 95 % interval"
        return
    first = clear.iloc[0]
    sizes = f"{first['mean_abs']:.3g} here and {first['mean_abs_against']:.3g} there"
    yield f"against {about.selection}: {first['player']} differs most, {sizes}"


def prune_lines(result: PruneResult) -> Iterator[str]:
    """The pruned neurons, the reasons of those that are kept, and the largest difference."""
    plan, settings = result.plan, result.context.settings.prune
    layers = plan.layers.values()
    if result.curves is not None:
        yield from statements.pruning_statements(
            result.curves, statements.curve_metric(result.curves)
        )[:2]
    if plan.score:
        yield f"neurons are ranked by {plan.score}"
    else:
        proposed, kept = (sum(getattr(x, name) for x in layers) for name in ("proposed", "refuted"))
        proposals = counted(proposed, "neuron")
        yield f"{proposals} with zero attribution; {kept:,} of them are not constant and are kept"
    for name, layer in plan.layers.items():
        if layer.stays:
            share = "one" if layer.constants else "all"
            yield f"{name} keeps {share} of its neurons: {layer.stays}"
        if layer.tied:
            yield (
                f"{name} keeps {layer.tied:,} constant neurons: a downstream layer is more "
                "than a weighted sum of them"
            )
    yield f"{plan.dropped:,} of {plan.units:,} neurons were pruned (level {plan.level})"
    if _is_exhausted(result, settings):
        yield (
            f"no more can be pruned: each prunable layer keeps one neuron, though prune.share "
            f"asks for {settings.share:.0%} of the {settings.budget_unit}"
        )
    rows = sum(result.certificate.rows.values())
    largest = f"{result.certificate.max_abs_logit_difference:.1e}"
    yield f"largest difference of a logit on all {rows:,} rows: {largest}"
    yield from filter(None, (of(result.certificate) for of in (of_all_pairs, of_bound, of_int8)))


def _is_exhausted(result: PruneResult, settings: Pruner) -> bool:
    """Whether a budget over all layers has pruned all that it may."""
    layers = result.plan.layers.values()
    over_all = settings.budget_unit != "layer" and settings.max_metric_drop is None
    over_all = over_all and settings.level == "budget"
    return over_all and bool(layers) and all(len(x.kept) == 1 or x.stays for x in layers)


def evaluate_lines(
    result: EvaluateResult,
    primary: list[str],
    own: list[str],
    facts: Mapping[str, Any],
    policy: str | None,
) -> Iterator[str]:
    """Quality by the `primary` and by `own`, requested metrics, then cost, before and after."""
    values = {**result.metrics, **result.latency}
    yield from _quality(values, primary)
    for metric in own:
        before, after = values[f"test/{metric}"], values[f"pruned/test/{metric}"]
        yield f"test/{metric} {before:.4f} as trained, {after:.4f} pruned"
    yield from repeats(facts, policy)
    yield from _unseen(values, primary, facts)
    yield from _costs(values)
    for name, share in values.items():
        if name.endswith(f"top{TOP}_agreement"):
            metric = name.removeprefix("pruned/")
            yield f"{metric} {share:.4f}: the share of a list's first {TOP} that still are"


def _quality(values: Mapping[str, float], primary: list[str]) -> Iterator[str]:
    for metric in primary:
        before, after = values[f"test/{metric}"], values[f"pruned/test/{metric}"]
        change, low, high = (
            minus(format_metric(metric, values[f"pruned/test/{metric}_change{end}"], before))
            for end in ("", "_low", "_high")
        )
        both = (
            f"test/{metric} {format_metric(metric, before)} as trained, "
            f"{format_metric(metric, after, before)} pruned"
        )
        yield f"{both}: {change} ({low} to {high})"
    for metric in primary:
        if f"test/{metric}_low" in values:
            low, high = (f"{values[f'test/{metric}_{end}']:.4f}" for end in ("low", "high"))
            yield f"test/{metric} as trained lies between {low} and {high} (95 % interval)"


UNSEEN = {
    ("unseen_user", "users"): "are unseen in training",
    ("unseen_user", "rows"): "have a user unseen in training",
    ("unseen_user", "lists"): "have a user unseen in training",
    ("unseen_item", "rows"): "have an item unseen in training",
    ("unseen_item", "lists"): "hold out an item unseen in training",
}
"""The property that the rows, lists or users of a group share."""


def _unseen(
    values: Mapping[str, float], primary: list[str], facts: Mapping[str, Any]
) -> Iterator[str]:
    totals = {"rows": facts["rows"]["test"], "lists": facts["lists"].get("test")}
    for metric in primary[::2]:
        task, slash, name = metric.rpartition("/")
        known = values.get(f"test/{task}{slash}known/{name}", nan)
        for (group, units), share_this in UNSEEN.items():
            own = f"test/{task}{slash}{group}"
            count, total = values.get(f"{own}/{units}"), totals.get(units)
            if count is not None:
                share = f" ({count / total:.1%})" if total else ""
                found = format_metric(name, values.get(f"{own}/{name}", nan), known)
                yield (
                    f"{count:,.0f} test {units}{share} {share_this}: {metric} "
                    f"{found} there, {format_metric(name, known)} on known ones"
                )


def _costs(values: Mapping[str, float]) -> Iterator[str]:
    rows = SIZES[-1]
    for name, words, form, unit in (
        ("parameters", "parameters", ",.0f", ""),
        ("flops", "FLOPs a row", ",.0f", ""),
        ("bytes", "bytes", ",.0f", ""),
        (f"latency_p50_{rows}", f"latency of {rows:,} rows", ".2f", " ms"),
    ):
        before, after = values[name], values[f"pruned/{name}"]
        change = f" ({minus(f'{after / before - 1:+z.1%}')})" if before else ""
        yield f"{words} {before:{form}}{unit} as trained, {after:{form}}{unit} pruned{change}"
    yield from ratio_lines(values)


def export_lines(result: ExportResult) -> Iterator[str]:
    """The files, and how each is used."""
    yield f"{files.PROGRAM.name}: torch.export.load(...).module()(dense, ids, history) gives logits"
    yield f"{files.PROGRAM_FACTS.name}: the columns that go in, and the tasks that come out"
    if files.ONNX.name not in result.not_written:
        yield f"{files.ONNX.name}: the same for ONNX runtimes"
    if result.checkpoint is not None:
        yield f"{files.DLRM_CHECKPOINT.name}: {result.checkpoint}"
    if result.golden is not None:
        rows, onnx = counted(result.golden, "golden row"), files.SCORE_ONNX.name
        more = "" if result.not_written else f"; python {onnx} does so with onnxruntime"
        yield (
            f"{files.BUNDLE} scores raw rows without Glassrec: python {files.SCORE.name} rows.csv; "
            f"--check scores its {rows} again{more}"
        )
    yield from (f"{name} is not written: {why}" for name, why in result.not_written.items())
