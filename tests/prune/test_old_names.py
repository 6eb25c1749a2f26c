"""Old names of models and of pruning's settings give the same configuration as today's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import get_class

from glassrec.aliases import TARGETS
from glassrec.config import compose


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["of=units", "within=0.1"], ["budget_unit=neurons", "max_metric_drop=0.1"]),
        (["level=domain", "combinations=9"], ["level=domain", "max_enumerated_inputs=9"]),
    ],
)
def test_old_settings(
    old: list[str], new: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (
        compose.prepare("run", ["prune.level=budget", *(f"prune.{word}" for word in words)])
        for words in (old, new)
    )
    assert first == second
    assert "of" not in first["prune"]


@pytest.mark.parametrize(
    "old", [name for name in TARGETS if ".prune." in name or ".models." in name]
)
def test_old_classes(old: str) -> None:
    assert old.rpartition(".")[2] in get_class(TARGETS[old]).__name__
    with pytest.raises((ImportError, ValueError)):
        get_class(old)
