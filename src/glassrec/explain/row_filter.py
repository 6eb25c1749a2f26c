"""Conditions on raw values, as `city == 'Paris' and price > 20`, of encoded rows."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glassrec.data.batch import Batch
from glassrec.data.encoding import Encoder, MultiValued
from glassrec.data.saved_encoder import value_type
from glassrec.spelling import did_you_mean, one_of

EXAMPLE = "city == 'Paris' and price > 20"

_SYMBOLS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_FROM_THE_RIGHT = {
    "<": ">", "<=": ">=", ">": "<", ">=": "<=", "in": "contains", "not in": "lacks"
}  # fmt: skip
"""The comparison of a constant with a column, as one of the column with the constant."""

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`([^`]*)`")
"""Text in quotes, or a column in backticks."""

_MOST = 10_000
"""Values of a column, at most, among which a near one is sought."""

Compare = Callable[[str, str, list[Any]], np.ndarray]
"""The rows (N,) bool whose column compares so with constants, of which there is one but for `in`
and `not in`."""


@dataclass(frozen=True)
class RowFilter:
    """A condition in the syntax of `pandas.DataFrame.query`, and nothing in it but comparisons of a
    column with constants, joined by `and`, `or`, `not`, `&`, `|`, `~` and brackets.

    A column whose name is no identifier stands in backticks. A column with several values in a cell
    takes `'new' in tags` and `'new' not in tags`; any other ==, !=, <, <=, >, >=, and `in` and
    `not in` with a list.

    Raises:
        ValueError: the text is anything else.
    """

    text: str

    def __post_init__(self) -> None:
        self._evaluate(self._parsed[0], lambda *_: np.ones(1, bool))

    def check(self, encoder: Encoder | None) -> None:
        """ValueError, before anything runs, if a column does not exist or has another type."""
        self._evaluate(self._parsed[0], _Columns(self.text, encoder, None))

    def matches(self, batch: Batch, encoder: Encoder | None) -> np.ndarray:
        """(N,) bool: the rows that the condition holds of.

        Numbers are compared in single precision, as the model reads them. A missing number, and a
        category that training did not know, differ from all constants.

        Raises:
            ValueError: as `check`.
        """
        return self._evaluate(self._parsed[0], _Columns(self.text, encoder, batch))

    def unknown(self, encoder: Encoder) -> list[str]:
        """A note for each text that is compared with a column and that training did not know."""
        found: list[str] = []

        def compare(name: str, symbol: str, constants: list[Any]) -> np.ndarray:
            known = encoder.vocabularies.get(name)
            for value in constants:
                if isinstance(value, str) and known is not None and value not in known.values:
                    near = did_you_mean(value, known.values[:_MOST].astype(str))
                    found.append(f"training saw no {name} {value!r}{near}")
            return np.ones(1, bool)

        self._evaluate(self._parsed[0], compare)
        return found

    @cached_property
    def _parsed(self) -> tuple[ast.expr, dict[str, str]]:
        """The condition, and its columns in backticks by the identifiers in their place."""
        names: dict[str, str] = {}

        def identifier(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0]
            names[key := f"backticks_{len(names)}"] = match[1]
            return key

        try:
            tree = ast.parse(_QUOTED.sub(identifier, self.text.strip()), mode="eval").body
        except (SyntaxError, ValueError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else error
            raise self._refused(f"is no condition ({reason})") from None
        return tree, names

    def _refused(self, reason: str) -> ValueError:
        return ValueError(f"where {self.text!r} {reason}; write a condition as {EXAMPLE}")

    def _evaluate(self, node: ast.expr, compare: Compare) -> np.ndarray:
        found: np.ndarray
        match node:
            case ast.BoolOp(op, values):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                found = join.reduce([self._evaluate(one, compare) for one in values])
            case ast.BinOp(left, ast.BitAnd(), right):
                found = self._evaluate(left, compare) & self._evaluate(right, compare)
            case ast.BinOp(left, ast.BitOr(), right):
                found = self._evaluate(left, compare) | self._evaluate(right, compare)
            case ast.UnaryOp(ast.Not() | ast.Invert(), operand):
                found = ~self._evaluate(operand, compare)
            case ast.Compare(left, ops, rights) if all(type(op) in _SYMBOLS for op in ops):
                pairs = zip([left, *rights], ops, rights, strict=False)
                found = np.logical_and.reduce([self._compared(*pair, compare) for pair in pairs])
            case _:
                raise self._refused(f"holds {ast.unparse(node)!r}, which is no comparison")
        return found

    def _compared(
        self, left: ast.expr, op: ast.cmpop, right: ast.expr, compare: Compare
    ) -> np.ndarray:
        symbol = _SYMBOLS[type(op)]
        if isinstance(right, ast.Name) and not isinstance(left, ast.Name):
            left, symbol, right = right, _FROM_THE_RIGHT.get(symbol, symbol), left
        if not isinstance(left, ast.Name) or isinstance(right, ast.Name):
            sides = f"{ast.unparse(left)} with {ast.unparse(right)}"
            raise self._refused(f"compares {sides}, and not a column with a constant")
        name = self._parsed[1].get(left.id, left.id)
        return compare(name, symbol, self._constants(right, listed=symbol in ("in", "not in")))

    def _constants(self, node: ast.expr, *, listed: bool) -> list[Any]:
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError):
            raise self._refused(
                f"holds {ast.unparse(node)!r}, which is no constant (each side of & and | needs "
                "brackets)"
            ) from None
        many = isinstance(value, list | tuple | set)
        found = [*value] if many else [value]
        plain = found and all(type(one) in (str, int, float) for one in found)
        if many != listed or not plain:
            wanted = "a list of texts or numbers" if listed else "a text or a number"
            raise self._refused(f"holds {ast.unparse(node)!r}, where {wanted} must stand")
        return found


@dataclass(frozen=True)
class _Columns:
    """Compares the columns of a batch; without one, it only checks that it could."""

    text: str
    encoder: Encoder | None
    batch: Batch | None

    def __call__(self, name: str, symbol: str, constants: list[Any]) -> np.ndarray:
        encoder = self.encoder
        if encoder is None:
            raise ValueError(
                f"where {self.text!r}: the data was not made from raw rows; leave it out"
            )
        columns = [*encoder.scalers, *encoder.vocabularies]
        if name not in columns:
            raise ValueError(f"where {self.text!r}: no column {name!r}{one_of(name, columns)}")
        known = encoder.vocabularies.get(name)
        is_text = known is not None and value_type(known.values) == "text"
        self._check(name, symbol, constants, is_text, isinstance(known, MultiValued))
        if self.batch is None:
            return np.ones(1, bool)
        if known is None:
            return self._of_numbers(self.batch, encoder, name, symbol, constants)
        return self._of_ids(self.batch, encoder, name, symbol, constants)

    def _check(
        self, name: str, symbol: str, constants: list[Any], is_text: bool, several: bool
    ) -> None:
        reason = ""
        if several != (symbol in ("contains", "lacks")):
            reason = f"a cell of {name} holds one value; write {name} == {constants[0]!r}"
            if several:
                reason = f"{name} has several values; write {constants[0]!r} in {name}"
        for value in constants:
            if isinstance(value, str) != is_text:
                kind = f"text; write {str(value)!r}" if is_text else "numbers; leave the quotes out"
                reason = f"{name} holds {kind}, in place of {value!r}"
        if reason:
            raise ValueError(f"where {self.text!r}: {reason}")

    @staticmethod
    def _of_numbers(
        batch: Batch, encoder: Encoder, name: str, symbol: str, constants: list[Any]
    ) -> np.ndarray:
        column = batch.dense[:, encoder.schema.dense.index(name)].numpy()
        scaled = encoder.scalers[name].apply(np.array(constants, np.float64)).astype(np.float32)
        if symbol in _OPERATORS:
            found = _OPERATORS[symbol](column, scaled[0])
        else:
            found = np.isin(column, scaled) == (symbol == "in")
        missing = column == 0 if name in encoder.columns.missing_ok else False
        return np.where(missing, symbol in ("!=", "not in"), found)

    @staticmethod
    def _of_ids(
        batch: Batch, encoder: Encoder, name: str, symbol: str, constants: list[Any]
    ) -> np.ndarray:
        schema, values = encoder.schema, encoder.vocabularies[name].values
        negated = symbol in ("!=", "not in", "lacks")
        if symbol in _OPERATORS and not negated:
            known = np.asarray(_OPERATORS[symbol](values, constants[0]))
        else:
            known = values.isin(constants)
        # Unknown values come first; a place without a value, of several, has the id −1.
        holds = np.r_[False, known, False]
        ids = batch.ids[:, [*schema.id_columns(name)]].numpy()
        offset = schema.offsets[schema.field_index(name)]
        found = holds[np.where(ids < 0, -1, ids - offset)].any(1)
        return found != negated
