"""The report of a run: its statements about artifacts made by hand, and its rendering."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from glassrec.artifacts import (
    Certificate,
    CertifiedLayer,
    Explanation,
    Facts,
    File,
    LayerPlan,
    PrunedNeurons,
    PrunePlan,
    StoredTable,
)
from glassrec.artifacts.file_list import (
    CERTIFICATE,
    EXPLANATION,
    HISTORY,
    IMPORTANCE,
    NEURONS,
    PLAN,
)
from glassrec.artifacts.file_list import DATA as DATA_FILE
from glassrec.report.blocks import Bars, Code, Details, Section, Sentences, TableBlock
from glassrec.report.formatting import metric_name
from glassrec.report.model_figures import learning_curve
from glassrec.report.run_record import RunRecord
from glassrec.report.run_report import page, report, summary
from glassrec.report.style import DPI, subtitle

EVIL = "<img src=x onerror=alert(1)>"

DATA = {
    "rows": {"train": 800, "val": 100, "test": 100},
    "lists": {},
    "negatives": None,
    "tasks": [{"name": "click", "kind": "click", "mean": {"train": 0.3, "val": 0.2, "test": 0.25}}],
    "fields": [
        {"name": EVIL, "values": 40, "per_row": 1, "unseen": {"val": 0.0, "test": 0.125}},
        {"name": "genres", "values": 9, "per_row": 3, "unseen": {"val": 0.0, "test": 0.0}},
    ],
    "dense": ["price"],
    "history": {"length": 5, "items": {"train": 3.5, "val": 4.0, "test": 4.0}},
    "user": None,
    "item": None,
    "truth": None,
    "repeats": {},
    "audit": None,
    "monitor": "val/auroc",
}

NUMBERS = {
    "test/auroc": 0.75, "test/auroc_low": 0.7, "test/auroc_high": 0.8, "test/accuracy": 0.9,
    "pruned/test/auroc": 0.74, "pruned/test/auroc_change": -0.01,
    "pruned/test/auroc_change_low": -0.02, "pruned/test/auroc_change_high": 0.005,
    "pruned/test/accuracy": 0.9, "parameters": 1000.0, "pruned/parameters": 800.0,
    "tower_parameters": 250.0, "pruned/tower_parameters": 50.0, "flops": 400.0,
    "pruned/flops": 300.0, "latency_p50_1": 0.5, "pruned/latency_p50_1": 0.4,
}  # fmt: skip


def _certificate(level: str, changed: int) -> Certificate:
    return Certificate(
        level=level, exact=not changed, ground="all 1,000 rows",
        rows={"train": 800, "val": 100, "test": 100},
        max_abs_logit_difference=0.5 if changed else 1e-15, p999_abs_logit_difference=0.25,
        rows_changed=changed, max_abs_logit=0.5, tolerance=1e-9,
        layers={"top.0": CertifiedLayer(8, 8, [PrunedNeurons(level, 0.5, 2, "top.0[1, 4]")])},
        weights="a" * 64, pruned="b" * 64, files={"weights.safetensors": "c" * 64},
        given={"data": {"rows.csv": "d" * 64}}, splits={"train": "e" * 64},
        versions={"glassrec": "0.1.0"},
    )  # fmt: skip


@pytest.fixture
def found(about: Explanation, statistics: Callable[..., pd.DataFrame]) -> RunRecord:
    """A run of which everything is there, but for pictures."""
    epochs = {"epoch": [1, 2, 3], "train/loss": [0.7, 0.6, 0.5], "val/auroc": [0.6, 0.71, 0.7]}
    importance = pd.DataFrame(
        {
            "player": ["price", EVIL, "genres"],
            "mean_abs": [0.2, 0.5, 0.05], "mean_abs_low": [0.18, 0.4, 0.04],
            "mean_abs_high": [0.25, 0.6, 0.06], "mean": [0.1, -0.2, 0.0],
            "positive_share": [0.5, 0.25, 0.5], "q_value": [0.01, 0.001, 0.4],
        }
    )  # fmt: skip
    neurons = pd.DataFrame(
        {
            "layer": ["bottom.0"] * 2 + ["top.0"] * 3,
            "name": ["bottom.0[0]", "bottom.0[1]", "top.0[0]", "top.0[1]", "top.0[2]"],
            "mean_abs": [0.1, 0.3, 0.2, 0.0, 0.1], "max_abs": [0.4, 0.5, 0.3, 0.0, 0.1],
            "positive_share": [0.5, 0.5, 0.5, 0.0, 0.0],
            "negative_share": [0.5, 0.5, 0.5, 0.0, 1.0],
        }
    )  # fmt: skip
    cut = LayerPlan(8, [0, 2, 3, 5, 6, 7], {"data": [1, 4]}, {1: 0.5, 4: 0.5}, 3, 1, 0, "")
    plan = PrunePlan("data", "", "all 1,000 rows", 1, True, False, "a" * 64, {"top.0": cut})
    config = {
        "seed": 3, "data": {"_target_": "glassrec.data.table.Table", "path": "/home/me/clicks.csv"},
        "model": {"_target_": f"mine.{EVIL}", "width": 8},
    }  # fmt: skip
    provenance = {
        "glassrec": "0.1.0", "torch": "2.13.0", "git_commit": "abc", "seed": 3,
        "command": ["glassrec", "run", "data=table", "data.path=/home/me/clicks.csv", f"a={EVIL}"],
        "data": {"clicks.csv": "d" * 64},
    }  # fmt: skip
    return RunRecord(
        Path("nowhere"), config=config, provenance=provenance, metrics=NUMBERS,
        hashes={"certificate.json": "f" * 64},
        contents={
            DATA_FILE.name: Facts(DATA), EXPLANATION.name: about, PLAN.name: plan,
            CERTIFICATE.name: _certificate("data", 0),
            HISTORY.name: StoredTable(pd.DataFrame(epochs)),
            IMPORTANCE.name: StoredTable(importance), NEURONS.name: StoredTable(neurons),
        },
    )  # fmt: skip


DESCRIPTIONS = {"model": "A model of mine.", "split": "Rows at random."}


def _with_file(found: RunRecord, file: File[Any], content: Any) -> RunRecord:
    return replace(found, contents={**found.contents, file.name: content})


def _section(found: RunRecord, name: str) -> Section:
    return next(each for each in report(found, DESCRIPTIONS).sections if each.name == name)


def _tables(parts: Any) -> Iterator[TableBlock]:
    for part in parts:
        if isinstance(part, TableBlock):
            yield part
        elif isinstance(part, Details):
            yield from _tables(part.blocks)


def test_the_summary_says_what_was_trained_how_good_it_is_and_what_the_cut_did(
    found: RunRecord,
) -> None:
    name = EVIL.rpartition(".")[2]
    assert [*report(found, DESCRIPTIONS).summary] == [
        f"The model, {name}, was trained for 3 epochs on 800 rows of clicks.csv to predict click.",
        "Of two test rows, one of label 1 and one of label 0, the model scores the first one "
        "higher in 75.0 % of cases (AUROC; 50 % is chance); the 95 % interval is 70.0 % to 80.0 %.",
        f"The largest effect on the logit is that of {EVIL} (0.5 on average), followed by price "
        "(0.2).",
        "2 of its 8 neurons (25.0 %) were pruned: their output is constant on all 1,000 rows.",
        "No prediction changes beyond rounding, and the model is smaller: parameters −20.0 % and "
        "FLOPs per row −25.0 %.",
    ]
    assert [*report(found, DESCRIPTIONS).tiles] == [
        ("0.7500", "AUROC on the test split"), ("1,000", "parameters as trained"),
        ("2 of 8", "neurons pruned"), ("−20.0 %", "parameters by pruning"),
        ("−25.0 %", "FLOPs by pruning"), ("0", "rows whose prediction changed"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "said"),
    [("domain", "their output is constant, or unused, for every input"),
     ("sample", "they had no effect on the explained rows"),
     ("budget", "their importance is the lowest")],
)  # fmt: skip
def test_only_what_is_proven_is_called_so(found: RunRecord, level: str, said: str) -> None:
    changed = 250 if level in ("sample", "budget") else 0
    told = report(_with_file(found, CERTIFICATE, _certificate(level, changed)), DESCRIPTIONS)
    assert told.summary[3] == f"2 of its 8 neurons (25.0 %) were pruned: {said}."
    if changed:
        assert "25.0 % of the predictions change, by at most 0.5 in the logit" in told.summary[4]
        assert not re.search("constant|prov(en|ably)", " ".join(told.summary))
    assert f"guarantee {level}" in [term for term, _ in told.glossary]


def test_the_data_are_told_with_what_training_does_not_know(found: RunRecord) -> None:
    section = _section(found, "data")
    assert section.finding == (
        "800 rows of clicks.csv train the model, 100 select the epoch, and 100 are the test split, "
        "on which nothing is selected."
    )
    rows, fields = _tables(section.blocks)
    assert rows.rows[2] == ["test", "100", "0.250"]
    assert fields.rows == [
        [EVIL, "40", "0.0 %", "12.5 %"], ["genres (multi-valued)", "9", "0.0 %", "0.0 %"]
    ]  # fmt: skip
    said = next(part for part in section.blocks if isinstance(part, Sentences)).lines
    assert "Split: Rows at random." in said
    assert "Read from clicks.csv." in said
    assert any("up to 5 earlier items of its user, in the training rows 3.5" in s for s in said)


def test_the_audit_is_shown_with_anomalies_first(found: RunRecord) -> None:
    findings = [
        {"check": "ties", "message": "2 of 9 rows tie", "anomaly": False},
        {"check": "constant", "message": f"{EVIL} is constant", "anomaly": True},
    ]
    told = {
        "audit": {"rows": 1234, "findings": findings},
        "repeats": {n: {"positives": 9, "known": k} for n, k in (("val", 3), ("test", 4))},
    }
    section = _section(_with_file(found, DATA_FILE, Facts(DATA | told)), "data")
    table = next(part for part in _tables(section.blocks) if "1,234 raw rows" in part.caption)
    assert [row[0] for row in table.rows] == ["constant", "ties"]
    assert [row[2] for row in table.rows] == [f"{EVIL} is constant", "2 of 9 rows tie"]
    said = next(part for part in section.blocks if isinstance(part, Sentences)).lines
    assert any("4 of 9 test and 3 of 9 val positives" in line for line in said)


def test_ranking_lists_and_negatives_are_told_as_such(found: RunRecord) -> None:
    lists = DATA | {"rows": {"train": 800, "val": 500, "test": 500}, "negatives": 4,
                    "lists": {"val": 5, "test": 5}}  # fmt: skip
    section = _section(_with_file(found, DATA_FILE, Facts(lists)), "data")
    assert "5 lists of 100 items select the epoch" in section.finding
    assert next(_tables(section.blocks)).rows[0] == ["training", "800", "–"]
    said = next(part for part in section.blocks if isinstance(part, Sentences)).lines
    assert "in each epoch 4 negatives are drawn" in said[0]


@pytest.mark.parametrize(
    ("values", "said"),
    [([0.6, 0.71, 0.7], "Epoch 2 of 3 is kept: its AUROC on the validation split, 0.7100, is the "
      "best."),
     ([0.6, 0.7, 0.71], "The last of 3 epochs is kept: its AUROC on the validation split, 0.7100, "
      "is the best so far, so more epochs may improve it.")],
)  # fmt: skip
def test_the_epoch_that_is_kept_is_the_best_on_validation(
    found: RunRecord, values: list[float], said: str
) -> None:
    history = found.rows(HISTORY).assign(**{"val/auroc": values})
    changed = _with_file(found, HISTORY, StoredTable(history))
    assert _section(changed, "training").finding == said


def test_the_columns_that_the_model_reads_are_named(found: RunRecord) -> None:
    names = f"{EVIL}, genres and price"
    earlier = ", and the user's earlier items"
    assert f"It reads 3 of 3 columns: {names}{earlier}. It has" in _section(found, "model").finding
    about = replace(found.explanation, unread=("genres", "history"))
    changed = _with_file(found, EXPLANATION, about)
    assert (
        f"It reads 2 of 3 columns: {EVIL} and price. It has" in _section(changed, "model").finding
    )


def test_names_are_readable(found: RunRecord) -> None:
    rows = next(_tables(_section(found, "training").blocks))
    assert rows.columns == ["epoch", "training loss", "AUROC"]
    numbers = {"test/hr@10": 0.5, "test/hr@10_low": 0.4, "test/hr@10_high": 0.625}
    said = [*summary(replace(found, metrics=numbers | {"test/ndcg@10": 0.25}))]
    assert any("(HR@10); the 95 % interval is 40.0 % to 62.5 %." in line for line in said)
    assert metric_name("test/task/ndcg@10_low") == "task: NDCG@10, low end of its interval"


def test_the_start_is_no_epoch_and_may_be_kept(found: RunRecord) -> None:
    history = found.rows(HISTORY).assign(epoch=[0, 1, 2], **{"val/auroc": [0.71, 0.6, 0.7]})
    changed = _with_file(found, HISTORY, StoredTable(history))
    said = _section(changed, "training").finding
    assert "initial weights are kept" in said
    assert "0.7100" in said
    assert "2 epochs" in said
    changed.rows(HISTORY)["val/auroc"] = [0.6, 0.71, 0.7]
    assert _section(changed, "training").finding.startswith("Epoch 1 of 2 is kept")


def test_of_an_error_the_least_is_best(found: RunRecord, drawn: list[Any]) -> None:
    frame = pd.DataFrame({"epoch": [1, 2], "train/loss": [1.0, 0.9], "val/rmse": [0.9, 1.1]})
    learning_curve(frame, "val/rmse")
    assert "Epoch 1 is kept" in drawn[0].texts[0].get_text()
    _, quality = drawn[0].axes
    assert "lower is better" in quality.get_title(loc="left")
    line, ring = quality.lines
    assert line.get_ydata().tolist() == [0.9, 1.1]
    assert [*ring.get_xdata(), *ring.get_ydata()] == [1, 0.9]


def test_bars_are_ranked_and_pale_where_it_could_be_chance(found: RunRecord) -> None:
    section = _section(found, "explanation")
    bars = next(part for part in section.blocks if isinstance(part, Bars)).bars
    assert [(bar.name, bar.text, bar.faint) for bar in bars] == [
        (EVIL, "0.500", False), ("price", "0.200", False), ("genres", "0.050", True)
    ]  # fmt: skip
    widest = bars[0]
    assert (widest.share, widest.low, widest.high) == pytest.approx((5 / 6, 4 / 6, 1.0))
    trust = next(part for part in section.blocks if isinstance(part, Sentences)).lines
    assert trust[0] == "Completeness error: 3.1 % of the logit difference."
    assert "subsets of the rows: 0.97" in trust[1]


def test_neurons_with_zero_attribution_are_counted_by_layer(found: RunRecord) -> None:
    section = _section(found, "neurons")
    assert section.finding == (
        "1 of 5 neurons have zero attribution on all of the 2,000 explained rows; 1 only lowered "
        "predictions."
    )
    assert next(_tables(section.blocks)).rows == [
        ["bottom.0", "bottom.0[1]", "2", "0", "0"], ["top.0", "top.0[0]", "3", "1", "1"]
    ]  # fmt: skip


def test_the_cut_is_told_with_its_promise_its_price_and_its_units(found: RunRecord) -> None:
    section = _section(found, "pruning")
    assert section.finding.startswith("Equal on every row: the logits of all 1,000 rows")
    quality, cost, _ = _tables(section.blocks)
    assert quality.rows[0] == ["AUROC", "0.7500", "0.7400", "−0.0100 (−0.0200 to 0.0050)"]
    assert ["parameters", "1,000", "800", "−20.0 %"] in cost.rows
    certificate = section.blocks[-1]
    assert isinstance(certificate, Details)
    (text,) = certificate.blocks
    assert isinstance(text, Code)
    for part in ("top.0[1, 4]", "train", "c" * 64, "d" * 64):
        assert part in text.text
    said = next(part for part in section.blocks if isinstance(part, Sentences)).lines
    assert "zero attribution on the explained rows, 1 is kept" in said[1]


def test_it_can_be_repeated_and_names_no_folder_of_the_machine(found: RunRecord) -> None:
    html = page(found, DESCRIPTIONS)
    assert "glassrec verify run.dir=" in html
    assert "/home/me" not in html
    assert "clicks.csv" in html
    hashes = [*_tables(_section(found, "reproduce").blocks)][-1].rows
    assert hashes == [["certificate.json", "f" * 64]]


def test_what_is_not_there_has_no_section(found: RunRecord) -> None:
    nothing = RunRecord(Path("nowhere"), config=found.config)
    assert report(nothing, {}).sections == []
    assert "was trained for no epoch on clicks.csv." in page(nothing, {})
    names = [
        each.name for each in report(_with_file(found, CERTIFICATE, None), DESCRIPTIONS).sections
    ]
    assert "pruning" not in names
    assert "explanation" in names


def test_only_words_that_are_used_are_explained(found: RunRecord) -> None:
    words = dict(report(found, DESCRIPTIONS).glossary)
    assert {"AUROC", "conductance", "guarantee data"} <= words.keys()
    assert not {"RMSE", "guarantee budget", "recall@10"} & words.keys()
    ids = re.findall(r'href="#(term-\d+)"', page(found, DESCRIPTIONS))
    assert ids
    assert all(f'id="{each}"' in page(found, DESCRIPTIONS) for each in ids)


def test_names_stay_text_and_nothing_runs(found: RunRecord) -> None:
    html = page(found, DESCRIPTIONS)
    assert EVIL not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "<script" not in html
    assert "default-src 'none'" in unescape(html)
    assert "script-src 'none'" in unescape(html)


@pytest.mark.parametrize("width", [390, 1280])
def test_letters_of_a_figure_are_readable_and_the_page_does_not_scroll(
    found: RunRecord, browser: Any, tmp_path: Path, width: int
) -> None:
    history = pd.DataFrame({"epoch": [0, 1], "train/loss": [nan, 0.5], "val/auroc": [0.5, 0.75]})
    vars(found)["figures"] = {"learning_curve": learning_curve(history, "val/auroc").content}
    path = tmp_path / "report.html"
    path.write_text(page(found, DESCRIPTIONS), encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(path.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    image = opened.locator("main img")
    pixels = image.evaluate("image => image.naturalWidth")
    # Letters of 8 points at the dots per inch of figures, in CSS pixels as they are shown.
    assert 8 / 72 * DPI * image.bounding_box()["width"] / pixels >= 9
    box = opened.locator(".picture").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth") == (width == 390)
    opened.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_asks_for_nothing_and_only_tables_scroll(
    found: RunRecord, browser: Any, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(found, DESCRIPTIONS), encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(f"error {error}"))
    opened.on("console", lambda message: wrong.append(f"console {message.text}"))
    opened.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
    opened.on("request", lambda asked: wrong.append(asked.url)
            if not asked.url.startswith(("file:", "data:")) else None)  # fmt: skip
    opened.goto(path.as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert opened.locator("main img").count() == 0
    assert opened.locator("section#explanation .bars tr").count() == 3
    bar = opened.locator(".bars .bar").first.bounding_box()
    track = opened.locator(".bars .track div").first.bounding_box()
    assert bar["width"] / track["width"] == pytest.approx(1, abs=0.01)  # the widest layer
    opened.locator("a.term").first.click()
    assert opened.url.startswith(f"{path.as_uri()}#term-")
    assert wrong == []
    opened.close()


def _with(
    found: RunRecord, importance: dict[str, list[float]] | None = None, **about: Any
) -> RunRecord:
    """The run with other importance, or with other facts of its explanation."""
    assert found.explanation is not None
    frame = found.rows(IMPORTANCE).assign(**(importance or {}))
    changed = _with_file(found, EXPLANATION, replace(found.explanation, **about))
    return _with_file(changed, IMPORTANCE, StoredTable(frame))


def test_effects_that_could_be_chance_are_not_named(found: RunRecord) -> None:
    changed = _with(found, {"q_value": [0.3, 0.2, 0.4]})
    (said,) = (each for each in report(changed, DESCRIPTIONS).summary if "significant" in each)
    assert said.startswith("None of the 3 inputs has a significant effect")
    assert EVIL not in said
    assert said == _section(changed, "explanation").finding


def test_effects_that_were_not_tested_are_said_to_be_so(found: RunRecord) -> None:
    said = _section(_with(found, {"q_value": [nan, nan, nan]}), "explanation").finding
    assert said.startswith(f"The largest mean attribution to the logit is that of {EVIL}")
    assert said.endswith("none was tested for significance.")


def test_a_constant_model_has_no_ranking(found: RunRecord) -> None:
    zeros = dict.fromkeys(("mean_abs", "mean_abs_low", "mean_abs_high", "mean"), [0.0] * 3)
    section = _section(_with(found, zeros, constant=True, unread=("user", "shop")), "explanation")
    assert "the same logit, −1.25, on all 2,000 explained rows" in section.finding
    (only,) = section.blocks
    assert isinstance(only, Sentences)
    assert any("does not read user and shop" in line for line in only.lines)


def test_inputs_without_effect_are_named_and_not_ranked(found: RunRecord) -> None:
    section = _section(_with(found, {"mean_abs": [0.2, 0.5, 0.0]}), "explanation")
    bars = next(part for part in section.blocks if isinstance(part, Bars)).bars
    assert [bar.name for bar in bars] == [EVIL, "price"]
    lines = [line for part in section.blocks if isinstance(part, Sentences) for line in part.lines]
    assert "No effect on any of the 2,000 explained rows: genres." in lines


def test_an_explanation_that_is_not_trusted_says_so_everywhere(found: RunRecord) -> None:
    changed = _with(found, trusted=False)
    section = _section(changed, "explanation")
    assert "not to be trusted" in section.finding
    assert "3.1 %" in section.finding
    lines = [line for part in section.blocks if isinstance(part, Sentences) for line in part.lines]
    assert any("explain.tolerance" in line for line in lines)
    assert any("NOT TRUSTED" in fact for fact in subtitle(changed.explanation))
    assert not any("NOT TRUSTED" in fact for fact in subtitle(found.explanation))
