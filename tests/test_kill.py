"""A small version of `kill_study.py`: one moment of each signal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glassrec.stages import outputs
from kill_study import SIGNALS, WORDS, Study, forked, load

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="it reads /proc")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            outputs, "explain_pictures", outputs.explain_pictures
        )  # which `load` replaces
        load()
        yield Study(tmp_path_factory.mktemp("study"), WORDS, forked)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [("KILL", 0.2), ("TERM", 0.5), ("INT", 0.8)])
def test_a_run_that_is_ended_goes_on_to_the_same_files(
    study: Study, name: str, share: float
) -> None:
    trial = study.trial(name, share * study.seconds, group=name == "INT")
    assert trial.problems == []
    assert trial.code in (0, SIGNALS[name])
