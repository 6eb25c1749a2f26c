from pathlib import Path

import pytest
import yaml

from glassrec import aliases
from glassrec.config import compose, overrides
from glassrec.run import artifact_key


@pytest.fixture(autouse=True)
def renamed(tmp_path, monkeypatch):
    """`prune.grade` became `prune.level`, and two others; each test works in its own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        aliases, "KEYS", {"prune.grade": "prune.level", "explain.picked": "explain.select"}
    )
    monkeypatch.setattr(aliases, "VALUES", {"prune.level": {"some": "sample"}})
    monkeypatch.setattr(
        aliases, "TARGETS", {"glassrec.old.Cut": "glassrec.prune.pruner.Pruner"}
    )  # fmt: skip
    monkeypatch.setattr(overrides, "_reported", set())
    compose._chosen.cache_clear()
    yield tmp_path
    compose._chosen.cache_clear()


OLD = {"prune": {"_target_": "glassrec.old.Cut", "grade": "some", "layers": ["top"]}}
NEW = {"prune": {"_target_": "glassrec.prune.pruner.Pruner", "layers": ["top"], "level": "sample"}}


def test_old_names_and_back():
    found, notes = aliases.current(OLD)
    assert found == NEW
    assert len(notes) == 3
    assert aliases.original(found) == OLD == aliases.original(OLD)
    assert aliases.current(NEW) == (NEW, [])


def test_keys_keep_their_order():
    config = {"prune": {"level": "data", "layers": None, "share": 0.5}}
    found, _ = aliases.current(config)
    assert [*found["prune"]] == ["level", "layers", "share"]


def test_a_node_under_an_old_name_is_laid_over_the_default():
    config = {"explain": {"picked": {"rows": 3}, "select": {"rows": 9, "split": "val"}}}
    assert aliases.current(config)[0] == {"explain": {"select": {"rows": 3, "split": "val"}}}


@pytest.mark.parametrize(
    ("word", "today"),
    [
        ("prune.grade=some", "prune.level=sample"),
        ("++prune.grade=data,some", "++prune.level=data,sample"),
        ("~prune.grade", "~prune.level"),
        ("explain.picked.rows=3", "explain.select.rows=3"),
        ("explain/picked=all", "explain/select=all"),
        ("prune.grader=1", "prune.grader=1"),
    ],
)
def test_words_of_a_command(word, today):
    assert aliases.current_word(word)[0] == today


def test_a_command_a_yaml_file_and_a_saved_run_give_the_same_settings(renamed, capsys):
    expected = compose.prepare("run", ["prune.level=sample", "explain.select.rows=7"])
    assert capsys.readouterr().err == ""
    words = compose.prepare("run", ["prune.grade=some", "explain.picked.rows=7"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "prune.grade is now prune.level" in line
    assert "explain.picked.rows is now explain.select.rows" in line
    own = renamed / "own" / "experiment" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\nprune: {grade: some}\nexplain: {picked: {rows: 7}}\n")
    file = compose.prepare("run", ["experiment=mine"], renamed / "own")
    capsys.readouterr()
    assert words == file == expected
    over = compose.prepare("run", ["experiment=mine", "prune.level=data"], renamed / "own")
    assert over["prune"]["level"] == "data"

    saved = aliases.original(compose.plain(expected))
    del saved["run"]
    assert saved["prune"]["grade"] == "some"
    Path("old").mkdir()
    Path("old", "config.yaml").write_text(yaml.safe_dump(saved))
    Path("old", "record.json").write_text("{}")
    again = compose.prepare("explain", ["run.dir=old"])
    assert again == expected | {"run": again["run"]}


def test_a_renaming_makes_no_result_stale_and_moves_no_run(monkeypatch):
    made_from = {"experiment": {"seed": 1}, **NEW}
    found = artifact_key(made_from, {})
    directory = compose.prepare("run", ["prune.level=sample"], sweep=True)["run"]["dir"]
    for table in ("KEYS", "VALUES", "TARGETS"):
        monkeypatch.setattr(aliases, table, {})
    assert artifact_key({"experiment": {"seed": 1}, **OLD}, {}) == found
    assert directory.name.startswith("planted-dlrm-")


def test_config_groups_in_a_users_files(renamed, monkeypatch, capsys):
    monkeypatch.setattr(aliases, "KEYS", {"explain.picked": "explain.select"})
    own = renamed / "own"
    for name, text in {
        "experiment/mine.yaml": "# @package _global_\ndefaults:\n- override /explain/picked: few\n",
        "explain/picked/few.yaml": "defaults:\n  - random\n  - _self_\nrows: 4\n",
        "explain/short.yaml": "defaults:\n  - default\n  - override picked: all\n  - _self_\n",
    }.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text)
    found = compose.prepare("run", ["experiment=mine"], own)
    assert found["explain"]["select"]["rows"] == 4
    assert "explain/picked is now explain/select" in capsys.readouterr().err
    for word in ("explain/picked=few", "explain/select=few"):
        assert compose.prepare("run", [word], own)["explain"]["select"]["rows"] == 4
    assert compose.prepare("run", ["explain=short"], own)["explain"]["select"]["rows"] is None
