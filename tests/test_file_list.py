"""The list of files: consistent, complete, and the only one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassrec.artifacts import file_list
from glassrec.artifacts.file_list import (
    BESIDE,
    FILES,
    LAYER_NEURONS,
    ROUND_PLAN,
    SCORE,
    SCORE_ONNX,
    STAGES,
    find,
)
from glassrec.config import compose

SOURCE = Path(file_list.__file__).parents[1]


def test_names_are_unique_and_inputs_come_first() -> None:
    names = [file.name for file in FILES]
    assert len({*names, *BESIDE}) == len(names) + len(BESIDE)
    for place, file in enumerate(FILES):
        assert file.stage in (*STAGES, "export")
        assert file.about
        assert {each.name for each in file.inputs} <= {*names[:place]}, file.name


def test_settings_are_keys_of_the_configuration() -> None:
    config = compose.prepare("run", ["explain/against=all", "evaluation=full"])
    for setting in {setting for file in FILES for setting in file.settings}:
        group, _, key = setting.partition(".")
        assert key == "" or key in config[group], setting


@pytest.mark.parametrize(
    ("name", "row"),
    [("plan_12.json", ROUND_PLAN), ("figures/neurons_top_1.png", LAYER_NEURONS)],
)
def test_a_name_with_a_part_that_varies_is_found(name: str, row: file_list.File) -> None:
    found = find(name)
    assert found is not None
    assert (found.name, found.about) == (name, row.about)
    assert find(f"other/{name}") is None


def _texts(path: Path) -> Iterator[str]:
    """The texts in the code of a module, but for its documentation."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            yield from [node.value] if isinstance(node.value, str) else []


def test_no_other_module_names_a_file() -> None:
    names = {*BESIDE, *(file.name for file in FILES)}
    scripts = {Path(file.name).name for file in (SCORE, SCORE_ONNX)}
    others = [
        f"{path.relative_to(SOURCE)}: {text}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path.name not in (Path(file_list.__file__).name, *scripts)
        for text in _texts(path)
        if text in names
    ]
    assert not others  # but for the scripts of the bundle, which are copied out of the package
