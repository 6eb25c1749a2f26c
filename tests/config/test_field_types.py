import ast
import contextlib
import sys
from pathlib import Path

import pytest

from glassrec.config import compose, field_types, targets
from glassrec.config.errors import ConfigError


def kind(annotation: str) -> field_types.FieldType:
    return field_types.field_type(targets.Parameter(ast.parse(annotation, mode="eval").body, True))


NODE = {"_target_": "a.B"}
PARTIAL = {"_target_": "a.B", "_partial_": True}


@pytest.mark.parametrize(
    ("annotation", "value", "taken"),
    [
        ("int", 3, 3),
        ("float", 3, 3.0),
        ("float", 1e-3, 1e-3),
        ("bool", True, True),
        ("str", "3", "3"),
        ("Any", [1, {"a": None}], [1, {"a": None}]),
        ("typing.Any", 1, 1),
        ("int | None", None, None),
        ("Optional[int]", None, None),
        ("'int | None'", 3, 3),
        ("Literal['a', 'b']", "b", "b"),
        ("tuple[int, ...]", [1, 2], (1, 2)),
        ("Sequence[int]", [1, 2], [1, 2]),
        ("Iterable[int]", [1, 2], [1, 2]),
        ("Mapping[str, float]", {"a": 1}, {"a": 1.0}),
        ("Annotated[float, Ge(0), Lt(1)]", 0, 0.0),
        ("Annotated[float, Interval(ge=0, lt=1)]", 0.5, 0.5),
        ("Annotated[int, annotated_types.Ge(-1)]", -1, -1),
        ("float | Tensor", 0.1, 0.1),
        ("tuple[float | Tensor, float | Tensor]", [0.9, 1], (0.9, 1.0)),
        ("Source", NODE, NODE),
        ("Source | None", None, None),
        ("glassrec.data.Source", NODE, NODE),
        ("Sequence[Source]", [NODE], [NODE]),
        ("Callable[[Schema], Recommender]", PARTIAL, PARTIAL),
    ],
)
def test_what_fits_is_taken_as_the_target_takes_it(annotation, value, taken):
    found, problems = kind(annotation).validate(value)
    assert problems == []
    assert found == taken
    assert type(found) is type(taken)


@pytest.mark.parametrize(
    ("annotation", "value", "place", "problem"),
    [
        ("int", "3", "", "'3' is not allowed; must be a whole number"),
        ("int", True, "", "True is not allowed; must be a whole number"),
        ("int", 1.5, "", "1.5 is not allowed; must be a whole number"),
        ("int", None, "", "None is not allowed; must be a whole number"),
        ("float", True, "", "True is not allowed; must be a number"),
        ("float", "fast", "", "'fast' is not allowed; must be a number"),
        ("bool", 1, "", "1 is not allowed; must be true or false"),
        ("str", 3, "", "3 is not allowed; must be text"),
        ("int | str", 1.5, "", "1.5 is not allowed; must be a whole number or text"),
        ("Annotated[int, Ge(1)]", 0, "", "0 is not allowed; must be >= 1"),
        ("Annotated[int, Ge(1)] | None", 0, "", "0 is not allowed; must be >= 1"),
        ("Annotated[int, Gt(1)]", 1, "", "1 is not allowed; must be > 1"),
        ("Annotated[int, Le(9)]", 10, "", "10 is not allowed; must be <= 9"),
        ("Annotated[int, Interval(ge=0, lt=8)]", 8, "", "8 is not allowed; must be < 8"),
        ("Annotated[float, Ge(0)]", float("nan"), "", "nan is not allowed; must be >= 0.0"),
        ("Annotated[list[int], MinLen(1)]", [], "", "[] is not allowed; must be at least 1 long"),
        ("Sequence[Annotated[int, Ge(1)]]", [2, 0], "[1]", "0 is not allowed; must be >= 1"),
        ("Sequence[str]", "abc", "", "'abc' is not allowed; must be a list"),
        ("Mapping[str, int]", {"a": "x"}, ".a", "'x' is not allowed; must be a whole number"),
        ("Mapping[str, int]", 3, "", "3 is not allowed; must be names with values"),
        ("tuple[float | Tensor, float]", ["x", 1], "[0]", "'x' is not allowed; must be a number"),
        ("Literal['cpu', 'gpu']", "gpuu", "",
         "'gpuu' is not allowed; must be 'cpu' or 'gpu'; did you mean 'gpu'?"),
        ("Source", 3, "", "3 is not allowed; must be settings with a _target_"),
        ("Source", {"a": 1}, "", "{'a': 1} is not allowed; must be settings with a _target_"),
        ("Source", PARTIAL, "", "a.B is not allowed; must be settings without `_partial_: true`"),
        ("Callable", NODE, "", "a.B is not allowed; must be settings with `_partial_: true`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_place(annotation, value, place, problem):
    assert kind(annotation).validate(value)[1] == [(place, problem)]


def test_all_wrong_entries_of_a_list_are_told():
    places = [place for place, _ in kind("Sequence[int]").validate([1, "a", 2, None])[1]]
    assert places == ["[1]", "[3]"]


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert kind("Path").validate("new")[0] == tmp_path / "new"
    assert kind("Path | None").validate("~/x")[0] == tmp_path / "home" / "x"
    assert kind("Mapping[str, pathlib.Path]").validate({"a": "b"})[0] == {"a": Path(tmp_path, "b")}


def test_paths_that_must_exist_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert kind("FilePath").validate("file") == (tmp_path / "file", [])
    assert kind("DirectoryPath").validate(".") == (tmp_path, [])
    wanted = "is not allowed; must be an existing directory"
    assert kind("DirectoryPath").validate("file")[1] == [("", f"{tmp_path}/file {wanted}")]
    missing = kind("FilePath | None").validate("no")[1]
    assert missing == [("", f"{tmp_path}/no is not allowed; must be an existing file")]


@pytest.mark.parametrize("value", ["", 3])
def test_an_empty_text_is_no_path(value):
    (problem,) = kind("DirectoryPath").validate(value)[1]
    assert problem[1].startswith(f"{value!r} is not allowed; must be")


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [("int", True), ("Path | None", True), ("Schema", False), ("Iterable[Parameter]", False)],
)
def test_a_schema_or_weights_cannot_be_written_down(annotation, expected):
    assert kind(annotation).is_setting is expected


@pytest.mark.parametrize("annotation", ["int | 3", "Annotated[int]", "int[3]"])
def test_an_annotation_that_says_nothing_is_an_error(annotation):
    with pytest.raises(ValueError, match="cannot be understood"):
        kind(annotation)


@pytest.mark.parametrize(
    "act",
    [
        "open('x', 'w')",
        "Annotated[int, open('x', 'w')]",
        "Annotated[int, ().__class__.__mro__[1].__subclasses__[open['x', 'w']]]",
        "__import__('os').system('touch x')",
        "Literal[open('x', 'w')]",
    ],
)
def test_an_annotation_cannot_act(act, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(ValueError):
        kind(act).validate(1)
    assert list(tmp_path.iterdir()) == []


OWN = """
import enum
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Literal, Optional, TypeAlias, Union

import annotated_types as at
import torch
from pydantic import BaseModel, Field, NonNegativeFloat, PositiveInt, confloat
from pydantic.types import StrictStr as Text
from glassrec.models.ncf import GMF

Share = Annotated[float, at.Interval(ge=0, le=1)]
Widths: TypeAlias = Sequence[PositiveInt]

class Act(str, Enum):
    RELU = "relu"
    TANH = "tanh"

class Level(enum.Enum):
    LOW = enum.auto()
    HIGH = enum.auto()

@dataclass
class Tower:
    widths: Widths
    dropout: Share = 0.0
    acts: list[Act] = field(default_factory=list)

class Head(BaseModel):
    size: PositiveInt
    bias: bool = True
    rate: float = Field(0.5, gt=0, alias="lr")
    tower: Tower | None = None

class Own(GMF):
    def __init__(self, data, factors: PositiveInt = 2, act: Act = Act.RELU,
                 level: Level = Level.LOW,
                 share: Share = 0.5, widths: Widths = (), tower: Optional[Tower] = None,
                 head: Union[Head, None] = None, mode: t.Literal["a", "b"] = "a",
                 heat: confloat(gt=0) = 1.0, cold: Annotated[float, Field(lt=0)] = -1.0,
                 name: Text = "x", device: torch.device | None = None,
                 heads: dict[str, Head] | None = None):
        super().__init__(data, factors)
        self.given = dict(act=act, level=level, tower=tower, head=head, heads=heads)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A model of the user's own, annotated as people do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("own_annotated.py").write_text(OWN)
    Path("own", "model").mkdir(parents=True)
    Path("own", "model", "mine.yaml").write_text("_target_: own_annotated.Own\n_partial_: true\n")
    yield tmp_path / "own"
    sys.modules.pop("own_annotated", None)


def own_problems(extra, *words):
    try:
        compose.prepare("run", ["model=mine", *words], extra)
    except ConfigError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(
    ("word", "key", "says"),
    [
        ("factors=0", "factors", "must be > 0"),
        ("factors='3'", "factors", "whole number"),
        ("act=rely", "act", "did you mean 'relu'"),
        ("level=MID", "level", "'LOW' or 'HIGH'"),
        ("share=1.5", "share", "must be <= 1"),
        ("widths=[3,0]", "widths[1]", "must be > 0"),
        ("tower={widths:[0]}", "tower.widths[0]", "must be > 0"),
        ("tower={width:[4]}", "tower.width", "did you mean 'widths'"),
        ("tower={dropout:0.5}", "tower.widths", "a value is needed"),
        ("head={size:1,lr:0}", "head.lr", "must be > 0"),
        ("head={size:1,tower:{widths:[1],acts:[no]}}", "head.tower.acts[0]", "'relu' or 'tanh'"),
        ("heads={a:{size:0}}", "heads.a.size", "must be > 0"),
        ("mode=c", "mode", "'a' or 'b'"),
        ("heat=0", "heat", "must be > 0"),
        ("cold=0.5", "cold", "must be < 0"),
        ("name=3", "name", "text"),
    ],
)
def test_the_annotations_of_a_users_model_are_checked(own, word, key, says):
    found = own_problems(own, f"model.{word}")
    assert any(each.startswith(f"model.{key}: ") and says in each for each in found), found
    assert "own_annotated" not in sys.modules


def test_a_users_model_gets_what_it_is_annotated_with(own):
    words = ["act=tanh", "level=HIGH", "tower={widths:[4,2],acts:[relu]}",
             "head={size:3,lr:0.1,tower:{widths:[]}}", "heads={a:{size:1}}", "share=1",
             "widths=[8]",              "heat=2", "mode=b", "name=y", "cold=-2"]  # fmt: skip
    words = ["model=mine", *(f"model.{word}" for word in words)]
    model = compose.build(compose.prepare("run", words, own))["model"]
    mine = sys.modules["own_annotated"]
    given = model.keywords
    assert given["act"] is mine.Act.TANH
    assert given["level"] is mine.Level.HIGH
    assert given["tower"] == mine.Tower([4, 2], acts=[mine.Act.RELU])
    assert given["head"] == mine.Head(size=3, lr=0.1, tower=mine.Tower([]))
    assert given["heads"] == {"a": mine.Head(size=1)}
    assert given["widths"] == [8]
