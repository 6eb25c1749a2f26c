"""The pages under docs/extend are complete: each extension works as its page writes it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glassrec.__main__ import main
from glassrec.stages import outputs
from small_run import QUICK

PAGES = Path(__file__).parents[1] / "docs" / "extend"
FILE = re.compile(r"```(?:python|yaml)\n# (\S+\.(?:py|yaml))\n(.*?)```", re.S)
SMALL = ["data.rows=600", "trainer=cpu", "trainer.max_epochs=1", "prune/curves=none", *QUICK]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes the files of a page, and runs its command with small settings."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(outputs, "explain_pictures", lambda *given: ())  # most of the time
    monkeypatch.chdir(tmp_path)

    def run(page: str, *settings: str) -> dict[str, float]:
        text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
        for name, content in FILE.findall(text):
            monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(content)
        (command,) = re.findall(r"^glassrec (.*)$", text, re.M)
        assert main([*command.split(), *settings, "run.dir=here"]) == 0
        return json.loads(Path("here/metrics.json").read_text())

    return run


def test_a_model(run) -> None:
    metrics = run("model", *SMALL)
    neurons = pd.read_parquet("here/neurons.parquet")
    assert neurons.groupby("layer").size().to_dict() == {"deep.0": 128, "deep.1": 64}
    assert metrics["pruned/max_abs_logit_difference"] < 1e-9


def test_an_importance_score(run, capsys: pytest.CaptureFixture[str]) -> None:
    run("score", *SMALL)
    assert "large activation" in Path("here/certificate.md").read_text() + capsys.readouterr().out


def test_a_data_set(run) -> None:
    random = np.random.default_rng(0)
    Path("shop").mkdir()
    pd.DataFrame({
        "isbn": range(20), "publisher": random.integers(4, size=20),
        "price": random.random(20).round(2),
    }).to_csv("shop/books.csv", index=False)  # fmt: skip
    pd.DataFrame({
        "customer": random.integers(30, size=600), "isbn": random.integers(20, size=600),
        "at": range(600), "bought": random.integers(2, size=600),
    }).to_csv("shop/visits.csv", index=False)  # fmt: skip
    run("data", *(s for s in SMALL if s != "data.rows=600"))
    facts = json.loads(Path("here/data.json").read_text())
    assert "publisher" in json.dumps(facts)


def test_an_attribution_method(run) -> None:
    run("method", *(s for s in SMALL if "method.steps" not in s))
    explanation = json.loads(Path("here/explanation.json").read_text())
    assert "leave one in" in json.dumps(explanation)


def test_a_metric(run) -> None:
    metrics = run("metric", *SMALL)
    assert {"test/top_decile", "pruned/test/top_decile"} <= metrics.keys()
    history = pd.read_csv("here/history.csv")
    assert history["val/top_decile"].between(0, 1).all()
    assert json.loads(Path("here/data.json").read_text())["monitor"] == "val/top_decile"


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "printed"), [("python", "neurons do nothing"), ("imported", "field user: 8 numbers")]
)
def test_a_page_of_python(page: str, printed: str, tmp_path: Path) -> None:
    text = (PAGES.parent / "guide" / f"{page}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
