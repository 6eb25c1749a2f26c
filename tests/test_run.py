"""A run directory: made once, atomically, known by its hash."""

from __future__ import annotations

import fcntl
import json
import re
from contextlib import closing
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch
import yaml

from glassrec.artifacts import File, Metrics, Weights
from glassrec.failures import WriteError
from glassrec.run import Lock, Run, is_locked, replacing, sha256

CONFIG: dict[str, Any] = {
    "run": {"dir": "anywhere"},
    "seed": 3,
    "data": {"_target_": "x.Source", "root": "/data/here", "rows": 10},
    "model": {"_target_": "x.Model", "factors": 8},
    "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1},
    "explain": {"steps": 4},
}


def _file(name: str, inputs: tuple[str, ...] = (), settings: tuple[str, ...] = ()) -> File[Metrics]:
    return File(name, Metrics, "train", "", tuple(map(_file, inputs)), settings)


def _once(
    run: Run,
    name: str,
    value: float,
    given: dict,
    inputs: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
) -> dict[str, float]:
    file = _file(name, inputs, settings)
    return run.once(file, lambda: Metrics({"value": value}), given).values


def test_an_artifact_is_made_once_and_again_when_stale(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG)
    assert _once(run, "a.json", 1, {"x": 1}) == {"value": 1}
    assert _once(run, "a.json", 2, {"x": 1}) == {"value": 1}
    assert run.new_files == ["a.json"]
    assert _once(run, "a.json", 3, {"x": 2}) == {"value": 3}
    recorded = json.loads((tmp_path / "record.json").read_text())["a.json"]["sha256"]
    assert recorded == sha256(tmp_path / "a.json") == run.sha256_of(_file("a.json"))


def test_what_was_made_of_a_stale_artifact_goes_with_it(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG)
    for name, inputs in (("a.json", ()), ("b.json", ("a.json",)), ("c.json", ("b.json",))):
        _once(run, name, 1, {}, inputs)
    _once(run, "other.json", 1, {})
    _once(run, "a.json", 2, {"changed": True})
    left = {path.name for path in tmp_path.glob("*.json")}
    assert left == {"a.json", "other.json", "record.json"}
    assert run.new_files == ["a.json", "b.json", "c.json", "other.json", "a.json"]


def test_an_equal_artifact_leaves_its_descendants_fresh(tmp_path: Path) -> None:
    """What is made again with the same content makes nothing else stale."""
    run = Run(tmp_path, CONFIG)
    for value, left in ((1, True), (2, False)):
        _once(run, "a.json", 1, {})
        _once(run, "b.json", 1, {}, ("a.json",))
        (tmp_path / "a.json").unlink()
        _once(run, "a.json", value, {"changed": value})
        assert (tmp_path / "b.json").exists() == left


def test_a_flipped_byte_and_a_cut_file_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG)
    made = Weights({"w": torch.arange(100.0)})

    def load() -> Weights:
        return run.once(File("w.safetensors", Weights, "train", ""), lambda: made, {})

    assert torch.equal(load().tensors["w"], made.tensors["w"])
    path = tmp_path / "w.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(ValueError, match=r"w\.safetensors has changed since it was written"):
        load()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"delete it to have it made again"):
        load()
    path.unlink()
    assert torch.equal(load().tensors["w"], made.tensors["w"])


def test_a_file_has_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    file = File("w.safetensors", Weights, "train", "")
    Run(tmp_path, CONFIG).once(file, lambda: Weights({"w": torch.zeros(2)}), {})
    (tmp_path / "plain").touch()
    rights = [(tmp_path / name).stat().st_mode for name in ("w.safetensors", "plain")]
    assert rights[0] == rights[1]


def test_a_directory_of_another_experiment_is_refused(tmp_path: Path) -> None:
    _once(Run(tmp_path, CONFIG), "a.json", 1, {})
    for change, message in (
        (
            {"model": {"_target_": "x.Model", "factors": 16}},
            r"model\.factors is 8 there and 16 here",
        ),
        ({"seed": 4}, r"seed is 3 there and 4 here"),
        ({"seed": 4, "model": {"_target_": "y"}}, r"and 2 more settings"),
    ):
        with pytest.raises(ValueError, match=message):
            Run(tmp_path, CONFIG | change)


@pytest.mark.parametrize("name", ["seed", "model"])
def test_another_value_of_an_environment_variable_is_another_experiment(
    tmp_path: Path, name: str
) -> None:
    """Neither value is written down, and a run goes back and forth between name and value."""

    def with_value(value: int) -> dict[str, Any]:
        return CONFIG | {name: value if name == "seed" else {"top": [value, 6]}}

    text: Any = "${oc.env:SECRET}" if name == "seed" else {"top": ["${oc.env:SECRET}", 6]}
    written = CONFIG | {name: text}
    with closing(Run(tmp_path, with_value(71), written=written)) as run:
        _once(run, "a.json", 1, {})
    for path in tmp_path.glob("*.*"):
        assert "71" not in re.sub(r"[0-9a-f]{64}", "", path.read_text()), path
    for other in (written, None):
        with pytest.raises(ValueError, match=rf"{name}[.top]* is .*SECRET.*another run\.dir"):
            Run(tmp_path, with_value(72), written=other)
    for same in (None, written):
        with closing(Run(tmp_path, with_value(71), written=same)) as run:
            assert _once(run, "a.json", 2, {}) == {"value": 1}
            run.save_config()
        with pytest.raises(ValueError, match="another experiment"):
            Run(tmp_path, with_value(72), written=written)


def test_where_data_lies_and_where_to_compute_may_differ(tmp_path: Path) -> None:
    _once(Run(tmp_path, CONFIG), "a.json", 1, {})
    elsewhere = CONFIG["data"] | {"root": "/moved/there"}
    there = CONFIG["trainer"] | {"accelerator": "gpu"}
    Run(tmp_path, CONFIG | {"data": elsewhere, "trainer": there})
    Run(tmp_path, CONFIG | {"explain": {"steps": 5}})
    # Each device takes a batch of its own, so their number is no matter of place.
    with pytest.raises(ValueError, match=r"trainer\.devices is 1 there and 2 here"):
        Run(tmp_path, CONFIG | {"trainer": CONFIG["trainer"] | {"devices": 2}})


def test_a_start_that_made_nothing_binds_nobody(tmp_path: Path) -> None:
    Run(tmp_path, CONFIG).close()
    Run(tmp_path, CONFIG | {"seed": 4})


def test_a_kill_before_the_record_does_not_make_the_new_file_a_fake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, CONFIG)
    _once(run, "a.json", 1, {"setting": "A"})
    with monkeypatch.context() as patch:
        written = iter([run._write_record] * 2)

        def killed(record: dict, settings: str | None = None) -> None:
            """The record is written twice, with new settings and without the file's old entry."""
            next(written)(record, settings)

        patch.setattr(run, "_write_record", killed)
        with pytest.raises(StopIteration):
            _once(run, "a.json", 2, {"setting": "B"})
    assert Metrics.load(tmp_path / "a.json").values == {"value": 2}
    assert _once(run, "a.json", 1, {"setting": "A"}) == {"value": 1}


def test_two_processes_do_not_share_a_directory(tmp_path: Path) -> None:
    first = Run(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="another process is working"):
        Run(tmp_path, CONFIG)
    first.close()
    Run(tmp_path, CONFIG)


def test_who_only_asks_whether_a_run_is_at_work_disturbs_nobody(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not is_locked(tmp_path)
        Timer(0.05, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with closing(Run(tmp_path, CONFIG)):
            assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_full_disk_leaves_the_old_artifact(tmp_path: Path) -> None:
    class Failing(Metrics):
        def save(self, path: Path) -> None:
            path.write_text("half")
            raise OSError(28, "No space left on device")

    run = Run(tmp_path, CONFIG)
    _once(run, "a.json", 1, {})
    with pytest.raises(WriteError, match=r"a\.json cannot be written: No space left"):
        run.once(_file("a.json"), lambda: Failing({}), {"x": 2})
    assert Metrics.load(tmp_path / "a.json").values == {"value": 1}


def _status(directory: Path) -> dict[str, str]:
    return json.loads((directory / "status.json").read_text())


def test_the_status_says_how_it_ended(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG)
    with run.working_on("train"):
        assert _status(tmp_path) == {"state": "running", "stage": "train"}
    assert _status(tmp_path) == {"state": "finished", "stage": "train"}

    def fail() -> None:
        with run.working_on("prune"):
            _once(run, "a.json", 1, {})
            assert _status(tmp_path) == {"state": "running", "stage": "prune"}
            raise ValueError("why\nand more")

    with pytest.raises(ValueError, match="why"):
        fail()
    assert _status(tmp_path) == {"state": "failed", "stage": "prune", "problem": "why"}


@pytest.mark.parametrize("error", [BrokenPipeError(), KeyboardInterrupt(), ValueError("data")])
def test_what_makes_nothing_leaves_a_finished_run_finished(
    tmp_path: Path, error: BaseException
) -> None:
    run = Run(tmp_path, CONFIG)
    for stage in ("train", "evaluate"):
        with run.working_on(stage):
            _once(run, "a.json", 1, {})
    before = (tmp_path / "status.json").read_bytes()
    with pytest.raises(type(error)), run.working_on("evaluate"):
        raise error
    with run.working_on("train"):
        _once(run, "a.json", 2, {})
    assert (tmp_path / "status.json").read_bytes() == before


def test_a_crashed_run_that_lacks_nothing_is_finished(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "running", "stage": "explain"}')
    with Run(tmp_path, CONFIG).working_on("explain"):
        pass
    assert _status(tmp_path) == {"state": "finished", "stage": "explain"}


def test_an_output_that_nobody_reads_interrupts_work(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG)
    with pytest.raises(BrokenPipeError), run.working_on("train"):
        raise BrokenPipeError
    assert _status(tmp_path)["state"] == "interrupted"


def test_the_status_is_written_where_there_is_no_room_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, CONFIG)
    touch = Path.touch

    def full(path: Path, *args: Any, **settings: Any) -> None:
        if path.suffix == ".part":
            raise OSError(28, "No space left on device")
        touch(path, *args, **settings)

    def fail() -> None:
        with run.working_on("train"):
            monkeypatch.setattr(Path, "touch", full)
            _once(run, "a.json", 1, {})

    with pytest.raises(WriteError, match=r"a\.json"):
        fail()
    status = _status(tmp_path)
    assert status["state"] == "failed"
    assert "a.json cannot be written: No space left" in status["problem"]


def test_a_damaged_record_is_no_traceback(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG)
    for damaged in ("{", "[]", '{"a.json": 3}'):
        (tmp_path / "record.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"record\.json is damaged; delete it"):
            _once(run, "a.json", 1, {})


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "in"):
        with pytest.raises(ValueError, match=r"run\.dir: .* is not a directory"):
            Run(path, CONFIG)


def _flip(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


@pytest.mark.parametrize(("old", "new"), [(b"seed: 3", b"seed: 2"), (b"steps: 4", b"steps: 5")])
def test_settings_that_are_not_those_of_the_results_are_refused(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    """Whether they are of the experiment or not, and whatever the command asks for."""
    with closing(Run(tmp_path, CONFIG)) as run:
        _once(run, "a.json", 1, {})
    _flip(tmp_path / "config.yaml", old, new)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for config in (CONFIG, yaml.safe_load((tmp_path / "config.yaml").read_text())):
        with pytest.raises(ValueError, match=r"config\.yaml does not hold the settings that made"):
            Run(tmp_path, config)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_kill_between_record_and_settings_leaves_both_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CONFIG | {"explain": {"steps": 5}}
    with closing(Run(tmp_path, CONFIG)) as run:
        _once(run, "a.json", 1, {"x": 4})
    with closing(Run(tmp_path, other)) as run, monkeypatch.context() as patch:

        def killed(name: str, text: str) -> None:
            if name == "config.yaml":
                raise KeyboardInterrupt
            Run.write(run, name, text)

        patch.setattr(run, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            _once(run, "a.json", 2, {"x": 5})
    for config in (CONFIG, other):
        with closing(Run(tmp_path, config)) as run:
            _once(run, "a.json", 1, {"x": config["explain"]["steps"]})
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["explain"] == {"steps": 5}
    _flip(tmp_path / "config.yaml", b"steps: 5", b"steps: 4")
    with pytest.raises(ValueError, match="does not hold the settings"):
        Run(tmp_path, other)


def _holds_lock(lock: Lock, ready: Event, end: Event) -> None:
    ready.set()
    end.wait(60)


def test_a_lock_is_held_by_the_processes_that_it_was_sent_to(tmp_path: Path) -> None:
    run, context = Run(tmp_path, CONFIG), get_context("spawn")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=_holds_lock, args=(run.lock, ready, end))
    process.start()
    run.close()
    assert is_locked(tmp_path)
    ready.wait(60)
    with pytest.raises(ValueError, match="another process is working"):
        Run(tmp_path, CONFIG)
    end.set()
    process.join()
    assert not is_locked(tmp_path)


def test_a_setting_that_an_older_run_does_not_have_makes_nothing_stale(tmp_path: Path) -> None:
    with closing(Run(tmp_path, CONFIG)) as run:
        assert _once(run, "a.json", 1, {}) == {"value": 1}
        assert _once(run, "a.json", 2, {}, settings=("explain.added_later",)) == {"value": 1}
        assert _once(run, "a.json", 3, {}, settings=("explain.steps",)) == {"value": 3}


def test_what_has_changed_is_reported_before_results_are_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(config: dict[str, Any], data: str) -> str:
        with closing(Run(tmp_path, config)) as run:
            given = {"data": {"clicks.csv": data}}
            run.describe(given["data"])
            for name in ("a.json", "b.json"):
                _once(run, name, 1, given, settings=("explain",) if name == "b.json" else ())
        return capsys.readouterr().out

    assert make(CONFIG, "1") == make(CONFIG, "1") == ""
    with closing(Run(tmp_path, CONFIG)) as run:
        _once(run, "a.json", 1, {"data": {"clicks.csv": "2"}})
    assert "data: clicks.csv has changed" in (out := capsys.readouterr().out)
    assert "replacing a.json, b.json" in out
    out = make(CONFIG | {"explain": {"steps": 5}}, "2")
    assert "explain.steps is 5 and was 4" in out
