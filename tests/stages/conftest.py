"""A trained and an explained run that the tests of the stages start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glassrec.__main__ import main
from glassrec.stages import outputs
from small_run import SMALL


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """Pictures of an explanation take most of the time, and no test here is about one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "explain_pictures", lambda *given: ())
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run; tests must not change it."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", f"run.dir={directory}", *SMALL]) == 0
    return directory
