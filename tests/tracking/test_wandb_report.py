"""`glassrec wandb-report`: what the report holds, and that nothing is asked without a key."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import wandb
from wandb_workspaces.reports.v2 import interface

from glassrec.__main__ import main
from glassrec.tracking.wandb_report import TrackedRun, differing, group_report


class Service:
    """In the place of W&B's server: notes what is saved, and knows one project."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []
        self.app_url = "https://wandb.example"

    def execute_graphql(self, _: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "spec" not in variables:
            return {"project": {"internalId": "1"}}
        self.saved.append(variables)
        spec = {"id": "R1", "name": "r", "type": "runs", "displayName": variables["displayName"],
                "description": "", "spec": variables["spec"],
                "project": {"name": "p", "entityName": "ada"}}  # fmt: skip
        return {"upsertView": {"view": spec, "inserted": True}}


class Api:
    """In the place of W&B's public API."""

    default_entity = "ada"

    def __init__(self) -> None:
        self._service_api = Service()
        self.found: list[Any] = []

    def runs(self, path: str, filters: dict[str, str]) -> list[Any]:
        self.asked = (path, filters)
        return self.found

    def projects(self, _: str) -> list[Any]:
        return [type("Project", (), {"name": "glassrec"})]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api()
    monkeypatch.setattr(interface, "_get_api", lambda: api)
    monkeypatch.setattr(wandb, "Api", lambda: api)
    monkeypatch.setattr(wandb, "login", lambda prompt: True)
    return api


def _runs(*metrics: str) -> list[TrackedRun]:
    return [
        TrackedRun(
            {"model/factors": factors, "model.factors": factors, "seed": seed, "data/rows": 5},
            dict.fromkeys([*metrics, *(f"pruned/{each}" for each in metrics)], 0.5),
        )
        for factors in (8, 16)
        for seed in (0, 1)
    ]


def _spec(made: Any) -> dict[str, Any]:
    text = made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    found: dict[str, Any] = json.loads(text)
    return found


def _panels(spec: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    (grid,) = (block for block in spec["blocks"] if block["type"] == "panel-grid")
    panels = grid["metadata"]["panelBankSectionConfig"]["panels"]
    return [(panel["viewType"], panel["config"]) for panel in panels]


@pytest.mark.usefixtures("api")
def test_a_report_shows_what_differs_against_quality_and_size() -> None:
    spec = _spec(group_report("it's", _runs("test/auroc", "test/accuracy"), "p", "ada"))
    (runset,) = spec["blocks"][2]["metadata"]["runSets"]
    assert [(each["key"]["name"], each["value"]) for each in runset["filters"]["filters"]] == [
        ("group", "it's")
    ]
    assert runset["runFeed"]["columnOrder"][:4] == [
        "run:displayName", "config:model/factors.value", "config:seed.value", "summary:test/auroc",
    ]  # fmt: skip
    (_, parallel), (_, scatter), (_, small), (_, loss), (_, learning), (_, cuts) = _panels(spec)
    assert [(each["accessor"], each.get("inverted")) for each in parallel["columns"]] == [
        ("config:model/factors.value", None), ("config:seed.value", None),
        ("summary:pruned/parameters", None), ("summary:test/auroc", False),
    ]  # fmt: skip
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:parameters", "summary:test/auroc")
    assert small["yAxis"] == "summary:pruned/test/auroc"
    assert [each["metrics"] for each in (loss, learning)] == [["train/loss"], ["val/auroc"]]
    assert (cuts["xAxis"], cuts["metricRegex"]) == ("prune/share", "prune/.*/val/auroc")


@pytest.mark.usefixtures("api")
def test_of_an_error_less_is_up() -> None:
    spec = _spec(group_report("g", _runs("test/rmse", "test/mae"), "p", "ada"))
    assert _panels(spec)[0][1]["columns"][-1] == {"accessor": "summary:test/rmse", "inverted": True}


def test_only_settings_that_differ_count_and_those_of_the_model_come_first() -> None:
    runs = [
        TrackedRun({"seed": s, "model/factors": f, "x": 1, "model.factors": f}, {})
        for s, f in ((0, 1), (1, 2))
    ]
    assert differing(runs) == ["model/factors", "seed"]
    assert differing([*runs, TrackedRun({}, {})]) == ["model/factors", "seed", "x"]


def test_the_command_saves_the_report_and_prints_its_address(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _runs("test/auroc", "test/accuracy")[0]
    api.found = [type("Run", (), {"config": run.config, "summary_metrics": run.summary})]
    assert main(["wandb-report", "widths", "--title", "Widths"]) == 0
    assert api.asked == ("ada/glassrec", {"group": "widths"})
    (saved,) = api._service_api.saved
    assert (saved["displayName"], saved["entityName"]) == ("Widths", "ada")
    address = "https://wandb.example/ada/glassrec/reports/Widths--R1"
    assert capsys.readouterr().out.splitlines()[-1] == address


@pytest.mark.parametrize(
    ("runs", "message"),
    [([], "W&B has no runs of the group 'g'"), (_runs(), "no run of the group 'g' was evaluated")],
)
def test_nothing_to_report_about_is_said(runs: list[TrackedRun], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        group_report("g", runs, "p", "e")


def test_without_a_key_nothing_is_asked_of_the_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: asked.append(a))
    monkeypatch.setattr(wandb, "Api", lambda: asked.append("api"))
    assert main(["wandb-report", "group"]) == 1
    assert asked == []
    assert "there is no key: set WANDB_API_KEY" in capsys.readouterr().err
