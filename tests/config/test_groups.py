import importlib.util
import shutil
from pathlib import Path

import pytest

from glassrec.config import groups


def _copy_of_groups_in(package: Path):
    copied = package / "config" / "groups.py"
    copied.parent.mkdir(parents=True)
    shutil.copy(groups.__file__, copied)
    spec = importlib.util.spec_from_file_location("copied_groups", copied)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("place", ["site/glassrec/configs", "configs"], ids=["wheel", "checkout"])
def test_configs_are_found_beside_the_package_and_above_it(tmp_path, monkeypatch, place):
    folder = tmp_path / place
    package = tmp_path / ("site" if "site" in place else "src") / "glassrec"
    module = _copy_of_groups_in(package)
    folder.mkdir()
    (folder / "run.yaml").write_text("")
    monkeypatch.chdir("/")
    assert module.configs_folder() == folder


def test_missing_configs_are_reported(tmp_path):
    module = _copy_of_groups_in(tmp_path / "site" / "glassrec")
    with pytest.raises(RuntimeError, match="install Glassrec again"):
        module.configs_folder()


def test_options_of_several_folders_are_joined(tmp_path):
    for file in ("a/data/x.yaml", "a/data/split/s.yaml", "a/run.yaml", "b/data/w.yaml",
                 "a/hydra/quiet.yaml", "b/data/notes.txt"):  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    found = groups.options(tmp_path / "a", tmp_path / "b")
    assert found == {"data": ["w", "x"], "data/split": ["s"]}
