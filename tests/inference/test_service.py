"""The example of a service gives over HTTP what the run gives in Python."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest
from raw_clicks import FinishedRun, new_rows

import glassrec

EXAMPLE = Path(__file__).parents[2] / "examples" / "service.py"


def test_a_service_scores_and_recommends(finished: FinishedRun) -> None:
    testclient = pytest.importorskip("fastapi.testclient", exc_type=ImportError)
    spec = importlib.util.spec_from_file_location("service", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    client = testclient.TestClient(module.service(str(finished.directory)))
    rows = new_rows(finished.test).head(5)
    answer = client.post("/score?reasons=2", json=rows.to_dict("records"))
    assert answer.status_code == 200, answer.text
    run = glassrec.load(finished.directory)
    expected = run.predict(rows, reasons=2)
    found = pd.DataFrame(answer.json())
    assert found["logit"].tolist() == pytest.approx(expected["logit"].tolist(), abs=1e-9)
    assert found["reason_1"].tolist() == expected["reason_1"].tolist()

    answer = client.get("/recommend/u_00007?k=3&reasons=1&city=Paris")
    assert answer.status_code == 200, answer.text
    best = run.recommend("u_00007", 3, context={"city": "Paris"})
    assert [each["item"] for each in answer.json()] == best["item"].tolist()
    served = run.serve()
    expected = served.recommend(served.user("u_00007", {"city": "Paris"}), 3, reasons=1)
    assert [each["reason_1"] for each in answer.json()] == expected["reason_1"].tolist()

    answer = client.post("/score", json=[{"city": "Paris"}])
    assert answer.status_code == 422
    assert "column" in answer.json()["error"]
