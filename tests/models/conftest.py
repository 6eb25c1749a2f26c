"""Ratings in standard units, so that papers' formulas give what a model gives."""

from dataclasses import replace

import pytest

from glassrec.data.schema import Schema, Target


@pytest.fixture
def schema(schema: Schema) -> Schema:
    return replace(schema, targets=(Target("label"), Target("stars", "rating")))
