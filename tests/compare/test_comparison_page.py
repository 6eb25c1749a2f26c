"""The page of a comparison, as a reader's browser shows it: no script of ours is trusted here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from glassrec.artifacts import CertifiedLayer, PrunedNeurons
from glassrec.compare.comparison_page import write_page
from glassrec.compare.run_comparison import MAX_DETAILED, compare
from glassrec.compare.scan import scan
from small_certificate import certificate

EVIL = "<img src=x onerror=alert(1)>"

REPORTED = "GMF 8 #0 ü 50%41?"
"""The run that has a report; a link has to quote all of its name."""


def _run(path: Path, settings: dict[str, Any], seed: int, auroc: float | None, **more: Any) -> Path:
    """A run directory as the pipeline leaves it; without a metric, one that failed."""
    path.mkdir(parents=True)
    config = {"seed": seed, "data": {"_target_": "glassrec.data.planted.Planted"}, **settings}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    status = {"state": "finished", "stage": "evaluate"} | more
    (path / "status.json").write_text(json.dumps(status))
    if auroc is not None:
        _evaluated(path, settings["model"]["factors"], auroc)
    return path


def _evaluated(path: Path, factors: int, auroc: float) -> None:
    quality = {f"{part}/auroc": auroc for part in ("val", "test", "pruned/test")}
    sizes = {"parameters": 1000 * factors, "pruned/parameters": 900 * factors}
    (path / "metrics.json").write_text(json.dumps(quality | sizes))
    epochs = pd.DataFrame({"epoch": [1, 2], "train/loss": [1, 0.5], "val/auroc": [0.5, auroc]})
    epochs.to_csv(path / "history.csv", index=False)
    players = {"user": auroc, EVIL: 0.2, "hour": 0.1, "day": 0.05, "week": 0.01}
    importance = pd.DataFrame({"player": [*players], "mean_abs": [*players.values()]})
    importance.to_parquet(path / "importance.parquet")
    size = np.arange(4.0)
    neurons = pd.DataFrame({"layer": "top.0", "mean_abs": size, "max_abs": size})
    neurons.to_parquet(path / "neurons.parquet")
    curve = {"score": "conductance", "draw": 0, "share": [0.0, 0.5], "folded": True, "epochs": 0}
    pd.DataFrame(curve | {"val/auroc": [auroc, auroc - 0.1]}).to_parquet(
        path / "pruning_curves.parquet"
    )
    removed = [PrunedNeurons("data", 0.0, 1, "top.0[0]")]
    certificate(layers={"top.0": CertifiedLayer(4, 4, removed)}).save(path / "certificate.json")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two models by two sizes by two seeds, three that came to no metrics, and a task
    of its own; one run has a report."""
    folder = tmp_path_factory.mktemp("runs")
    for place, (model, factors) in enumerate([("GMF", 8), ("GMF", 16), ("MLP", 8), ("MLP", 80)]):
        settings = {"model": {"_target_": f"models.{model}", "factors": factors}}
        for seed in range(2):
            name = f"{model}-{factors}-{seed}" if place or seed else REPORTED
            run = _run(folder / name, settings, seed, 0.9 - 0.1 * place + 0.01 * seed)
            (run / "report.html").touch() if name == REPORTED else None
    settings = {"model": {"_target_": "models.MLP", "factors": 9}}
    _run(folder / EVIL, settings, 0, None, state="failed", problem=f"CUDA {EVIL}")
    _run(folder / "crashed", settings, 1, None, state="running", stage="train")
    other = {"model": {"_target_": "models.MLP", "factors": 8}, "objective": {"x": EVIL}}
    other["data"] = {"_target_": f"glassrec.data.table.{'Long' * 20}Table"}
    _run(folder / "another-task", other, 0, 0.5)
    page = folder / "comparison" / "index.html"
    write_page(compare(scan([folder])), page)
    return page


@pytest.fixture
def page(browser: Any, path: Path) -> Iterator[Any]:
    """The page, opened; it fails whatever asks for the network, complains or opens a dialog."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    wrong: list[str] = []
    own = path.as_uri()
    opened.on("pageerror", lambda error: wrong.append(f"error {error}"))
    opened.on("console", lambda message: wrong.append(f"console {message.text}"))
    opened.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
    opened.on("request", lambda asked: asked.url == own or asked.url.startswith("data:")
              or wrong.append(f"request {asked.url}"))  # fmt: skip
    opened.route("**", lambda route: route.continue_() if route.request.url == own
                 else route.abort())  # fmt: skip
    opened.set_default_timeout(5000)
    opened.goto(own)
    yield opened
    context.close()
    assert wrong == []


def _names(page: Any) -> list[str]:
    """The settings of the largest task that can be seen, from the top."""
    return (
        page.locator("table.settings").first.locator("tr.setting:visible .name").all_inner_texts()
    )


BEST_FIRST = [
    "gmf · factors 8", "gmf · factors 16", "mlp · factors 8", "mlp · factors 80",
    "mlp · factors 9",
]  # fmt: skip


def _heading(page: Any, name: str) -> Any:
    exact = re.compile(f"^{re.escape(name)}$")
    return page.locator("table.settings").first.get_by_role("button", name=exact)


def test_best_settings_are_first_and_those_without_metrics_last(page: Any) -> None:
    assert _names(page) == BEST_FIRST


def test_a_click_sorts_numbers_as_numbers_with_blanks_last_in_both_directions(page: Any) -> None:
    first, rest = BEST_FIRST[:4], BEST_FIRST[4:]
    sizes = ["gmf · factors 8", "mlp · factors 8", "gmf · factors 16", "mlp · factors 80"]
    button = _heading(page, "parameters")
    button.click()
    assert _names(page) == sizes + rest
    button.click()
    assert _names(page) == ["mlp · factors 80", "gmf · factors 16", *sizes[:2], *rest]
    assert button.locator("..").get_attribute("aria-sort") == "descending"
    _heading(page, "AUROC").click()
    assert _names(page) == first + rest


def test_the_keyboard_sorts_too(page: Any) -> None:
    button = _heading(page, "AUROC")
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert _names(page) == [*BEST_FIRST[3::-1], BEST_FIRST[4]]
    assert button.locator("..").get_attribute("aria-sort") == "ascending"


def test_all_words_of_the_filter_have_to_match_and_a_setting_matches_as_a_whole(page: Any) -> None:
    page.fill("#words", "MLP factors=8")
    assert _names(page) == ["mlp · factors 8"]
    assert page.inner_text("#count") == "3 of 11 runs"  # one is another task's
    page.fill("#words", "factors")
    assert len(_names(page)) == 5
    page.fill("#words", "seed=1 gmf-16")
    assert _names(page) == ["gmf · factors 16"]
    page.fill("#words", "")
    assert _names(page) == BEST_FIRST


def test_states_filter_runs_and_their_problem_is_told(page: Any) -> None:
    page.fill("#words", "state=crashed")
    assert _names(page) == ["mlp · factors 9"]
    page.get_by_role("button", name="Show all runs").click()
    assert page.locator("tr.run:visible .badge").all_inner_texts() == ["crashed"]
    told = page.locator("#not-finished").inner_text()
    assert "without an error message" in told
    assert f"CUDA {EVIL}" in told


def test_a_setting_opens_to_its_runs_and_links_to_the_report_that_is_there(
    page: Any, path: Path
) -> None:
    assert page.locator("tr.run:visible").count() == 0
    page.locator("button.open").first.click()
    assert page.locator("tr.run:visible").count() == 2
    links = page.locator("table.settings tr.run a")
    assert links.all_inner_texts() == [REPORTED]
    report = path.parents[1] / REPORTED / "report.html"
    assert links.first.evaluate("link => link.href") == report.as_uri()


def test_names_are_text_wherever_they_stand(page: Any) -> None:
    assert page.locator("img").count() == 0
    page.get_by_role("button", name="Show all runs").click()
    assert page.locator("tr.run:visible", has_text=EVIL).count() == 1
    assert page.locator("table.heat th", has_text=EVIL[:8]).count() >= 1


def test_other_tasks_are_ranked_apart(page: Any) -> None:
    assert page.locator("table.settings").count() == 2
    assert "another-task" in page.locator("table.settings").nth(1).text_content()


def test_what_is_pointed_at_stands_out_in_the_charts_and_what_is_filtered_fades(page: Any) -> None:
    body = page.locator("table.settings tbody").nth(1)
    key = body.get_attribute("data-of")
    body.hover()
    lit = page.locator("svg .lit")
    assert {each.get_attribute("data-of") for each in lit.all()} == {key}
    assert page.locator("svg.lit").count() >= 4
    page.fill("#words", "mlp")
    assert page.locator(f'svg .off[data-of="{key}"]').count() == lit.count() > 0


def test_what_differs_sorts_as_numbers_where_it_is_one(page: Any) -> None:
    table = page.locator("section", has_text="How do the settings differ?").locator("table")
    table.get_by_role("button", name="factors").click()
    assert table.locator("tbody td:nth-of-type(2)").all_inner_texts() == ["8", "8", "9", "16", "80"]


def test_a_phone_scrolls_tables_and_not_the_page(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="Show all runs").click()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    box = page.locator("table.settings").first.locator("..")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")


def test_paper_has_no_controls_and_cuts_nothing_off(page: Any) -> None:
    assert page.locator("form.controls").is_visible()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 without its margins
    assert page.locator(".controls:visible").count() == 0
    widest = "Math.max(...[...document.querySelectorAll('table, svg')]"
    assert page.evaluate(f"{widest}.map(each => each.getBoundingClientRect().right))") <= 718


def test_without_a_script_everything_is_there(browser: Any, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(path.as_uri())
    assert opened.locator("tr.run:visible").count() == 11
    assert opened.locator("form.controls").is_hidden()
    context.close()


def test_ids_are_used_once_and_parts_of_drawings_are_their_own(path: Path) -> None:
    text = path.read_text()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len({*ids}) > 10
    assert {*re.findall(r"url\(#([^)]+)\)", text)} <= {*ids}
    assert {*re.findall(r' href="#([^"]+)"', text)} <= {*ids}


def test_what_tells_of_the_best_settings_alone_says_so(tmp_path: Path) -> None:
    for place in range(MAX_DETAILED + 1):
        settings = {"model": {"_target_": "models.MLP", "factors": place}}
        _run(tmp_path / "runs" / str(place), settings, 0, place / 100)
    write_page(compare(scan([tmp_path / "runs"])), tmp_path / "index.html")
    sections = (tmp_path / "index.html").read_text().split("<section")[1:]
    note = f"The first {MAX_DETAILED} of {MAX_DETAILED + 1} settings."
    limited = {re.findall("<h2>(.*?)</h2>", each)[0]: note in each for each in sections}
    assert limited.pop("planted") is False
    assert len(limited) == 6
    assert limited.pop("Do the explanations agree?") is False  # it has fewer still
    assert all(limited.values())
    assert f"The first 15 of {MAX_DETAILED + 1} settings." in sections[4]


def test_a_log_that_is_not_there_is_no_link(tmp_path: Path) -> None:
    job = {"number": 1, "label": "", "run": None, "state": "failed", "log": "1.log"}
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": [job]}))
    for there in (False, True):
        (tmp_path / "1.log").touch() if there else None
        write_page(compare(scan([tmp_path])), tmp_path / "index.html")
        assert ('<a href="1.log">' in (tmp_path / "index.html").read_text()) == there
