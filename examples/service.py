"""Serve a finished run over HTTP: predictions and recommendations with reasons, in your own values.

RUN=runs/x uvicorn --factory examples.service:service
"""

import functools
import json
import os
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

import glassrec

Rows = list[dict[str, Any]]


def service(directory: str | None = None) -> FastAPI:
    """The service of the run in a directory, by default that of the environment variable RUN."""
    run, app = glassrec.load(directory or os.environ["RUN"]), FastAPI(title="Glassrec")
    server = functools.cache(run.serve)  # encodes the items once; score needs none

    @app.exception_handler(ValueError)
    def refuse(_: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=422)

    @app.post("/score")
    def score(rows: Rows, reasons: int = 3, model: str = "trained") -> Rows:
        """The rows with probability, logit, unseen values and the strongest reasons."""
        return plain(run.predict(pd.DataFrame(rows), reasons=reasons, model=model))

    @app.get("/recommend/{user}")
    def recommend(user: str, request: Request, k: int = 10, reasons: int = 3) -> Rows:
        """The best items for a user; other parameters are columns of the context: ?city=Paris."""
        context = {k: v for k, v in request.query_params.items() if k not in ("k", "reasons")}
        return plain(server().recommend(server().user(user, context), k, reasons=reasons))

    return app


def plain(frame: pd.DataFrame) -> Rows:
    """Rows as JSON holds them; null where a value is missing."""
    found: Rows = json.loads(frame.to_json(orient="records", double_precision=15))
    return found
