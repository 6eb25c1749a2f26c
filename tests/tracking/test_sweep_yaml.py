"""The `sweep.yaml` of the documentation, as W&B's own agent uses it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from wandb import wandb_agent

from glassrec.__main__ import main

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "tracking.md"


@pytest.fixture(scope="module")
def sweep() -> dict[str, Any]:
    (block,) = re.findall(r"```yaml\n(# sweep\.yaml\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def test_it_says_what_wandb_requires(sweep: dict[str, Any]) -> None:
    assert sweep["method"] in ("grid", "random", "bayes")
    assert sweep["metric"].keys() == {"name", "goal"}
    assert sweep["metric"]["goal"] in ("maximize", "minimize")
    for parameter in sweep["parameters"].values():
        assert parameter.keys() in ({"values"}, {"distribution", "min", "max"})


def _samples(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """The first and the last of the values of each parameter, as a server sends them."""
    parts = [(p.get("values") or [p["min"], p["max"]]) for p in sweep["parameters"].values()]
    return [
        {name: {"value": part[end]} for name, part in zip(sweep["parameters"], parts, strict=True)}
        for end in (0, -1)
    ]


def test_its_agent_runs_a_command_that_glassrec_understands(
    sweep: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[list[str]] = []

    def process(command: list[str], **_: object) -> SimpleNamespace:
        started.append(command)
        return SimpleNamespace()

    monkeypatch.setattr(wandb_agent, "AgentProcess", process)
    for name, value in {
        "DIR": str(tmp_path),
        "SWEEP_ID": "s",
        "RUN_ID": "",
        "SWEEP_PARAM_PATH": "",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)  # the agent sets more; all is put back
    agent = SimpleNamespace(
        _sweep_command=sweep["command"], _run_processes={}, _in_jupyter=False, _function=None,
        _forward_signals=False,
    )  # fmt: skip
    for sample in _samples(sweep):
        command = {"run_id": "r", "program": sweep.get("program"), "args": sample}
        wandb_agent.Agent._command_run(agent, command)
        env, program, *words = started[-1]
        assert (env, program) == ("/usr/bin/env", "glassrec")
        assert main([*words, "--cfg", "job"]) == 0
        config = yaml.safe_load(capsys.readouterr().out)
        assert config["tracker"]["_target_"] == "glassrec.tracking.WandB"
        assert config["model"]["factors"] == sample["model.factors"]["value"]
        assert config["optimizer"]["lr"] == sample["optimizer.lr"]["value"]
        assert config["seed"] == sample["seed"]["value"]
