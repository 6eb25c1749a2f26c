"""`glassrec verify`: it passes on what a run made, and says what differs after any change."""

from __future__ import annotations

import fcntl
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from flip_bits import flips
from glassrec.__main__ import main
from glassrec.artifacts import Certificate, Facts, Metrics, StoredTable, Weights, digest
from glassrec.prune.certificate_text import text
from glassrec.run import artifact_key, experiment, read_provenance, record_text, sha256
from glassrec.run.provenance import as_text
from glassrec.stages.recompute import differing
from small_run import QUICK

WORDS = [
    "trainer=cpu", "trainer.max_epochs=1", "trainer.batch_size=64", *QUICK, "prune/curves=none",
]  # fmt: skip
MODEL = ["model.embedding=3", "model.bottom=[4]", "model.top=[24,6]"]

Verify = Callable[[], tuple[int, str, str]]


def _table(folder: Path) -> list[str]:
    """The words for a table of 400 rows, which is written."""
    draw = random.Random(0)
    rows = [
        f"u{draw.randrange(9)},i{draw.randrange(7)},{draw.random():.3f},{draw.randrange(2)}"
        for _ in range(400)
    ]
    (folder / "rows.csv").write_text("\n".join(["user,item,price,click", *rows]) + "\n")
    columns = "label: click\nuser: user\nitem: item\ndense: [price]\n"
    (folder / "columns.yaml").write_text(columns)
    return ["data=table", f"data.path={folder / 'rows.csv'}", f"data.columns={folder}/columns.yaml"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs of a DLRM at both levels, and of a GMF, of which nothing can be cut."""
    folder = tmp_path_factory.mktemp("runs")
    words = [*_table(folder), *WORDS]
    assert main(["run", f"run.dir={folder / 'run'}", *words, *MODEL]) == 0
    assert main(["run", f"run.dir={folder / 'none'}", *words, "model=gmf"]) == 0
    shutil.copytree(folder / "run", folder / "sample")
    assert main(["run", f"run.dir={folder / 'sample'}", "prune.level=sample"]) == 0
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A copy of the run, with data of its own."""
    for name in ("rows.csv", "columns.yaml"):
        shutil.copy(folder / name, tmp_path)
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def data(run: Path) -> list[str]:
    """The words for where the data of the copy lie."""
    return [f"data.path={run.parent / 'rows.csv'}", f"data.columns={run.parent}/columns.yaml"]


@pytest.fixture
def verify(run: Path, data: list[str], capsys: pytest.CaptureFixture[str]) -> Verify:
    """Verifies the copy and gives the exit code, the output and the errors."""

    def verified() -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["verify", f"run.dir={run}", *data])
        return code, *capsys.readouterr()

    return verified


def test_a_run_whose_data_were_explained_as_new_rows_is_as_verified(
    run: Path, verify: Verify, tmp_path: Path
) -> None:
    words = [f"run.dir={run}", f"rows={tmp_path / 'rows.csv'}", f"out={tmp_path / 'out.parquet'}"]
    assert main(["explain", *words]) == 0
    assert (tmp_path / "out.parquet").is_file()
    assert verify()[0] == 0


def _certify_anew(run: Path, **changes: object) -> None:
    """A certificate of the files as they are, with changes, and its text."""
    old = Certificate.load(run / "certificate.json")
    files = {name: sha256(run / name) for name in old.files}
    pruned = digest(Weights.load(run / "pruned.safetensors").tensors)
    new = replace(old, files=files, pruned=pruned, **changes)
    new.save(run / "certificate.json")
    (run / "certificate.md").write_text(text(new))


def _record_anew(run: Path, *, keys: bool = True) -> None:
    """What a cunning person does: the record is made to fit the files as they are."""
    record = json.loads((run / "record.json").read_text())
    config = yaml.safe_load((run / "config.yaml").read_text())
    files = [run.parent / "rows.csv", run.parent / "columns.yaml"]
    given = {"data": {path.name: sha256(path) for path in files}, "model": {}}
    for name, entry in record.items():
        entry["sha256"] = sha256(run / name)
    made = [entry for name, entry in record.items() if name != "config.yaml"]
    for entry in made if keys else ():
        slots = {s: {k: config[s][k] for k in names} for s, names in entry["settings"].items()}
        made_from = {"experiment": experiment(config), "given": given} | slots
        hashes = {name: record[name]["sha256"] for name in entry["inputs"]}
        entry["key"] = artifact_key(made_from, hashes)
    (run / "record.json").write_text(record_text(record))


def _change(path: Path, at: float, new: bytes | None = None) -> None:
    """Change one byte, at a share of the file."""
    content = bytearray(path.read_bytes())
    place = min(int(at * len(content)), len(content) - 1)
    content[place] = new[0] if new and content[place] != new[0] else content[place] ^ 1
    path.write_bytes(content)


def test_a_cut_on_all_pairs_is_verified_and_a_claim_that_does_not_hold_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data.path={folder / 'rows.csv'}", f"data.columns={folder}/columns.yaml"]
    run = folder / "pairs"
    shutil.copytree(folder / "none", run)
    assert main(["prune", f"run.dir={run}", "cut=half", *words, "prune.level=budget"]) == 0
    said = capsys.readouterr().out
    assert "on all 80 pairs of user and item, unseen ones included" in said  # 10 users, 8 items
    cut = run / "cuts" / "half"
    assert "on all 80 pairs" in (cut / "certificate.md").read_text()
    verify = ["verify", f"run.dir={run}", "cut=half", *words]
    assert main(verify) == 0
    old = Certificate.load(cut / "certificate.json")
    assert old.all_pairs is not None
    assert old.all_pairs.max_abs_logit_difference >= old.max_abs_logit_difference > 0
    larger = replace(old.all_pairs, max_abs_logit_difference=9.0)
    replace(old, all_pairs=larger).save(cut / "certificate.json")
    capsys.readouterr()
    assert main(verify) == 1
    assert "all_pairs.max_abs_logit_difference is 9.0 there" in capsys.readouterr().err


def test_it_passes_and_leaves_every_file_alone(run: Path, verify: Verify) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for path in run.rglob("*")}
        return {path: (stat.st_mtime_ns, stat.st_ino) for path, stat in found.items()}

    plan = json.loads((run / "plan.json").read_text())
    assert any(cut["constants"] for cut in plan["layers"].values())
    before = state()
    code, out, err = verify()
    assert (code, err) == (0, "")
    assert state() == before
    said = [line for line in out.splitlines() if line.startswith("verify    ")]
    assert any("metrics follow from weights and data" in line for line in said)
    assert any("validation metrics of epoch 1 in the history" in line for line in said)
    assert any("attributions of the first and last rows follow" in line for line in said)
    (hashed,) = (line for line in said if "checked by their hash alone" in line)
    assert "neurons.parquet" in hashed
    assert "figures" in hashed
    assert "metrics.json" not in hashed
    assert "2 files from outside have the sha256 that is certified" in out
    assert "on all 400 rows the logits of both models differ by at most" in out
    assert "bit for bit" in out
    assert said[-1] == "verify    everything is as recorded"


@pytest.mark.parametrize("name", ["none", "sample"])
def test_it_passes_where_nothing_or_too_much_is_cut(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", f"run.dir={folder / name}"]) == 0, capsys.readouterr().err
    dropped = json.loads((folder / name / "plan.json").read_text())["layers"].values()
    assert any(cut["constants"] for cut in dropped) == (name == "sample")


FILES = [
    "pruned.safetensors", "weights.safetensors", "plan.json", "certificate.json", "certificate.md",
]  # fmt: skip


@pytest.mark.parametrize(("at", "new"), [(0, b"x"), (0.3, b" "), (0.6, None), (1, b" ")])
@pytest.mark.parametrize("name", [*FILES, "record.json"])
def test_one_byte_is_found(
    run: Path, verify: Verify, name: str, at: float, new: bytes | None
) -> None:
    _change(run / name, at, new)
    code, out, err = verify()
    assert code == 1
    assert name in err if name != "record.json" else "recorded" in err or "record.json" in err
    assert "everything is as recorded" not in out


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize(("at", "new"), [(0.5, None), (1, b" ")])
@pytest.mark.parametrize("name", FILES)
def test_one_byte_is_found_though_the_record_was_made_to_fit(
    run: Path, verify: Verify, name: str, at: float, new: bytes | None, keys: bool
) -> None:
    _change(run / name, at, new)
    _record_anew(run, keys=keys)
    code, _, err = verify()
    assert code == 1
    assert name in err


def test_the_record_made_to_fit_what_is_there_changes_nothing(run: Path) -> None:
    """The forger of these tests knows the trade."""
    before = (run / "record.json").read_bytes()
    _record_anew(run)
    assert (run / "record.json").read_bytes() == before


@pytest.mark.parametrize(("at", "new"), [(0.5, b"7"), (0.03, b"\n")])
def test_a_byte_of_the_data_is_found(run: Path, verify: Verify, at: float, new: bytes) -> None:
    _change(run.parent / "rows.csv", at, new)
    code, _, err = verify()
    assert code == 1
    assert "what came from outside: data.rows.csv is" in err


def test_all_that_differs_is_listed(run: Path, verify: Verify) -> None:
    for name in FILES:
        _change(run / name, 1, b"!")
    _change(run.parent / "rows.csv", 0.5, b"7")
    (run / "history.csv").unlink()
    code, _, err = verify()
    assert code == 1
    for name in FILES:
        assert f"glassrec: error: {name} has changed: its sha256 is " in err
    assert "glassrec: error: history.csv is missing, and record.json has it" in err
    assert "certificate.json is damaged" in err
    assert not (run / "history.csv").exists()


def test_a_data_file_that_is_gone_is_a_difference(run: Path, verify: Verify) -> None:
    (run.parent / "rows.csv").write_text("user,item,price,click\n")
    code, _, err = verify()
    assert code == 1
    assert "so pruning, comparison and metrics were not checked" in err


@pytest.mark.parametrize(("old", "new"), [("seed: 0", "seed: 1"), ("level: data", "level: sample")])
def test_other_settings_are_found(run: Path, verify: Verify, old: str, new: str) -> None:
    config = (run / "config.yaml").read_text()
    assert old in config
    (run / "config.yaml").write_text(config.replace(old, new))
    code, _, err = verify()
    assert code == 1
    assert "config.yaml does not hold the settings that made the results" in err
    _record_anew(run, keys=False)
    code, _, err = verify()
    assert code == 1
    assert "not made of what config.yaml and record.json say: " in err
    assert "plan.json" in err or "more" in err


def test_what_is_missing_is_not_made(run: Path, verify: Verify) -> None:
    (run / "pruned.safetensors").unlink()
    code, _, err = verify()
    assert code == 1
    assert "pruned.safetensors is missing" in err
    assert not (run / "pruned.safetensors").exists()


def test_a_run_that_was_only_trained_has_nothing_to_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run.dir={tmp_path / 'run'}", "data.rows=300", "trainer=cpu", "model=gmf"]
    assert main(["train", *words, "trainer.max_epochs=1"]) == 0
    assert main(["verify", words[0]]) == 1
    err = capsys.readouterr().err
    assert "plan.json is not in record.json; run `glassrec prune` first" in err


@pytest.mark.parametrize(("by", "code"), [(1e-10, 0), (1e-7, 1)])
def test_differences_are_compared_but_for_rounding(
    run: Path, verify: Verify, by: float, code: int
) -> None:
    _certify_anew(run, max_abs_logit_difference=by)
    _record_anew(run)
    found, _, err = verify()
    assert found == code
    assert ("max_abs_logit_difference is 1e-07 there" in err) == bool(code)


@pytest.mark.parametrize(
    "change",
    [{"rows_changed": 1}, {"rows": {"train": 320, "val": 40, "test": 41}}, {"level": "domain"},
     {"weights": "0" * 64}, {"splits": {}}, {"layers": {}}, {"exact": False}],
)  # fmt: skip
def test_a_false_certificate_is_found_though_all_else_was_made_to_fit(
    run: Path, verify: Verify, change: dict[str, object]
) -> None:
    _certify_anew(run, **change)
    _record_anew(run)
    code, _, err = verify()
    assert code == 1
    (name,) = change
    assert ("rows of the data" if name == "splits" else f"certificate.json: {name}") in err


@pytest.mark.parametrize(("by", "code"), [(1e-14, 0), (1e-10, 1)])
def test_a_bias_that_took_over_a_constant_is_compared_but_for_rounding(
    run: Path, verify: Verify, by: float, code: int
) -> None:
    tensors = load_file(run / "pruned.safetensors")
    assert tensors["output.bias"].dtype == torch.float32
    tensors["output.bias"] = tensors["output.bias"].double() + by
    save_file(tensors, run / "pruned.safetensors")
    metrics = Metrics.load(run / "metrics.json").values
    larger = {name: metrics[name] + 4 for name in ("pruned/bytes", "pruned/tower_bytes")}
    Metrics(metrics | larger).save(run / "metrics.json")
    _certify_anew(run)
    _record_anew(run)
    found, out, err = verify()
    assert found == code, err
    assert (
        "up to rounding" in out if code == 0 else "output.bias is not as the plan gives it" in err
    )


def test_an_older_wording_of_the_certificate_is_compared_by_its_numbers(
    run: Path, verify: Verify
) -> None:
    path = run / "certificate.md"
    older = "# Certificate of a cut\n" + path.read_text().split("\n", 1)[1].replace(
        "neuron", "unit"
    )
    for content, code in ((older, 0), (older.replace("400 rows", "401 rows"), 1)):
        path.write_text(content)
        _record_anew(run)
        assert verify()[0] == code


def test_a_run_at_work_is_not_verified(run: Path, verify: Verify) -> None:
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = verify()
    assert code == 1
    assert "another process is working in" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "run.dir: a value is needed, e.g. run.dir=PATH; verify works on a run"),
     (["run.dir=nowhere"], "run.dir: nowhere is no run directory"),
     (["run.dir=nowhere", "prune.level=sample"], "prune.level=sample: a run is verified as it is")],
)  # fmt: skip
def test_a_wrong_command_ends_with_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *words]) == 2
    assert said in capsys.readouterr().err


def test_help_lists_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "  verify     " in out
    assert "  export     " in out


def test_of_long_values_the_part_that_differs_is_shown() -> None:
    there = "units " + ", ".join(map(str, range(100)))
    (line,) = differing("certificate.json", {"gone": there}, {"gone": there.replace("57", "5X")})
    assert "56, 57, 58" in line
    assert "56, 5X, 58" in line
    assert len(line) < 250


def test_any_flipped_bit_is_found(run: Path, data: list[str]) -> None:
    """Twelve here; `python tests/flip_bits.py` flips 200."""
    missed = [(name, bit) for name, bit, said in flips(run, 12, seed=1, words=data) if not said]
    assert not missed


@pytest.mark.parametrize("evaluated", [False, True])
def test_forged_metrics_are_found_before_and_after_evaluate(
    run: Path, verify: Verify, data: list[str], evaluated: bool
) -> None:
    """The hash in the record is made to fit, and so is the report, by the command itself."""
    metrics = json.loads((run / "metrics.json").read_text())
    metrics |= {"test/auroc": 0.99, "pruned/test/auroc": 0.99}
    Metrics(metrics).save(run / "metrics.json")
    _record_anew(run, keys=False)
    if evaluated:
        assert main(["evaluate", f"run.dir={run}", *data]) == 0
    code, out, err = verify()
    assert code == 1
    assert "metrics.json: test/auroc is 0.99 there, and 0." in err
    assert "metrics.json: pruned/test/auroc is 0.99 there" in err
    assert "everything is as recorded" not in out


def _forge_table(run: Path, name: str, column: str, by: float = 0.25) -> None:
    table = StoredTable.load(run / name)
    table.frame.loc[0, column] += by
    table.save(run / name)


def _forge_facts(run: Path, name: str, **changes: object) -> None:
    facts = json.loads((run / name).read_text())
    Facts(facts | changes).save(run / name)


FORGED = {
    "history.csv": lambda run: _forge_table(run, "history.csv", "val/auroc"),
    "importance.parquet": lambda run: _forge_table(run, "importance.parquet", "mean_abs"),
    "explanation.json": lambda run: _forge_facts(run, "explanation.json", relative_delta=0.0),
    "data.json": lambda run: _forge_facts(run, "data.json", rows={"train": 1}),
    "latency.json": lambda run: _forge_facts(run, "latency.json", latency_p50_4096=0.0),
    "attributions.parquet": lambda run: _forge_table(run, "attributions.parquet", "price"),
    "encoder.json": lambda run: _forge_facts(run, "encoder.json", scalers={}),
    "vocabulary.parquet": lambda run: _forge_table(run, "vocabulary.parquet", "id", 1),
    "catalogue.parquet": lambda run: _forge_table(run, "catalogue.parquet", "training_count", 1),
    "interactions.parquet": lambda run: _forge_table(run, "interactions.parquet", "row", 1),
    "last_rows.parquet": lambda run: _forge_table(run, "last_rows.parquet", "price"),
    "samples.parquet": lambda run: _forge_table(run, "samples.parquet", "price"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_claim_is_found_though_the_record_was_made_to_fit(
    run: Path, verify: Verify, name: str
) -> None:
    FORGED[name](run)
    _record_anew(run, keys=False)
    code, _, err = verify()
    assert code == 1
    assert any(line.startswith(f"glassrec: error: {name}") for line in err.splitlines()), err


def test_a_forged_bundle_is_found_though_all_hashes_were_made_to_fit(
    run: Path, verify: Verify
) -> None:
    assert main(["export", f"run.dir={run}"]) == 0
    code, out, err = verify()
    assert code == 0, err
    assert "bundle/ gives the golden rows the logits of the pruned model" in out
    about = json.loads((run / "bundle" / "encoder.json").read_text())
    about["dense"][0]["mean"] += 0.1
    Facts(about).save(run / "bundle" / "encoder.json")
    files = json.loads((run / "bundle" / "manifest.json").read_text())
    Facts({name: sha256(run / "bundle" / name) for name in files}).save(
        run / "bundle" / "manifest.json"
    )
    _record_anew(run)
    code, _, err = verify()
    assert code == 1
    assert "bundle/encoder.json: dense is " in err
    assert "bundle/: row 0: " in err


def test_metrics_are_compared_but_for_rounding(run: Path, verify: Verify) -> None:
    metrics = Metrics.load(run / "metrics.json").values
    metrics["val/log_loss"] += 5e-5
    Metrics(metrics).save(run / "metrics.json")
    _record_anew(run)
    code, _, err = verify()
    assert code == 0, err


@pytest.mark.parametrize(
    "change",
    [lambda text: "", lambda text: text.replace('"seed": 0', '"seed": 1'),
     lambda text: text.replace("glassrec", "glassrek", 1), lambda text: text + " ", None],
)  # fmt: skip
def test_a_changed_provenance_is_found_and_run_writes_it_again(
    run: Path, verify: Verify, change: Callable[[str], str] | None
) -> None:
    path = run / "provenance.json"
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    code, _, err = verify()
    assert code == 1
    assert "provenance.json" in err
    assert main(["run", f"run.dir={run}"]) == 0
    restored = read_provenance(path)
    assert restored["seed"] == 0
    assert restored["restored"] is True, "its versions and command are of another time"
    assert verify()[0] == 0


def test_a_provenance_whose_hash_was_made_to_fit_is_held_against_the_run(
    run: Path, verify: Verify
) -> None:
    facts = read_provenance(run / "provenance.json")
    (run / "provenance.json").write_text(as_text(facts | {"seed": 7}))
    code, _, err = verify()
    assert code == 1
    assert "provenance.json: seed is 7, and the run says 0" in err


@pytest.mark.parametrize("text", ["", "{}", '{"state": "finished", "stage": "evaluate"}\n', None])
def test_a_changed_status_is_found(run: Path, verify: Verify, text: str | None) -> None:
    if text is None:
        (run / "status.json").unlink()
    else:
        (run / "status.json").write_text(text)
    code, _, err = verify()
    assert code == 1
    assert "status.json" in err


def test_a_file_that_is_none_of_the_run_is_named(run: Path, verify: Verify) -> None:
    (run / "notes.txt").write_text("mine")
    (run / "wandb").mkdir()
    (run / "wandb" / "log").write_text("x")
    (run / "figures" / "other.png").write_text("x")
    code, out, _ = verify()
    assert code == 0
    assert "no files of the run: figures/other.png, notes.txt, wandb/" in out
