import ast
from pathlib import Path

import pytest

from glassrec.config import values


def kind(annotation: str) -> values.Kind:
    return values.read(ast.parse(annotation, mode="eval").body)


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
    found, problems = kind(annotation).fit(value)
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
    assert kind(annotation).fit(value)[1] == [(place, problem)]


def test_all_wrong_entries_of_a_list_are_told():
    places = [place for place, _ in kind("Sequence[int]").fit([1, "a", 2, None])[1]]
    assert places == ["[1]", "[3]"]


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert kind("Path").fit("new")[0] == tmp_path / "new"
    assert kind("Path | None").fit("~/x")[0] == tmp_path / "home" / "x"
    assert kind("Mapping[str, pathlib.Path]").fit({"a": "b"})[0] == {"a": Path(tmp_path, "b")}


def test_paths_that_must_exist_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert kind("FilePath").fit("file") == (tmp_path / "file", [])
    assert kind("DirectoryPath").fit(".") == (tmp_path, [])
    wanted = "is not allowed; must be a directory that exists"
    assert kind("DirectoryPath").fit("file")[1] == [("", f"{tmp_path}/file {wanted}")]
    missing = kind("FilePath | None").fit("no")[1]
    assert missing == [("", f"{tmp_path}/no is not allowed; must be a file that exists")]


@pytest.mark.parametrize("value", ["", 3])
def test_an_empty_text_is_no_path(value):
    (problem,) = kind("DirectoryPath").fit(value)[1]
    assert problem[1].startswith(f"{value!r} is not allowed; must be")


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [("int", True), ("Path | None", True), ("Schema", False), ("Iterable[Parameter]", False)],
)
def test_a_schema_or_weights_cannot_be_written_down(annotation, expected):
    assert kind(annotation).is_value is expected


@pytest.mark.parametrize("annotation", ["int | 3", "Annotated[int]", "int[3]"])
def test_an_annotation_that_says_nothing_is_an_error(annotation):
    with pytest.raises(ValueError, match="cannot read the annotation"):
        kind(annotation)


def test_an_annotation_cannot_act(tmp_path):
    with pytest.raises(ValueError, match="cannot read"):
        kind(f"Annotated[int, open('{tmp_path}/x', 'w')]")
    kind(f"Annotated[int, ().__class__.__mro__[1].__subclasses__[open['{tmp_path}/x', 'w']]]")
    assert list(tmp_path.iterdir()) == []
