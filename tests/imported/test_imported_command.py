"""Models from elsewhere on the command line: the same numbers, errors, and no code unasked."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click_model import Bags, batches, build
from plain_modules import marked_line
from safetensors.torch import save_file
from torch import nn

from glassrec.__main__ import main
from glassrec.artifacts import AttributionFile
from glassrec.data.decoding import decode
from glassrec.imported.batches import Batches
from glassrec.imported.factory import build_module, imported, load_weights
from small_run import QUICK

MODULE = Path(__file__).with_name("click_model.py")
CODE = ["model.factory=own_clicks:build", "data.factory=own_clicks:batches"]
CHOICES = ["model=imported", "data=batches", "trainer=cpu", *QUICK]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the module, and a finished run of it in `run`."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("work")
        patch.setattr(sys, "path", [*sys.path])
        patch.chdir(path)
        shutil.copy(MODULE, path / "own_clicks.py")
        assert (
            main(
                [
                    "run",
                    *CHOICES,
                    *CODE,
                    "explain.method.steps=512",
                    "data/split=by_time",
                    "run.dir=run",
                ]
            )
            == 0
        )
        yield path
    sys.modules.pop("own_clicks", None)


@pytest.fixture
def command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs a command there; its exit code and all that it prints."""
    monkeypatch.chdir(folder)

    def run(*words: str) -> tuple[int, str]:
        code = main([*words])
        return code, "".join(capsys.readouterr())

    return run


def _logits(model: nn.Module, part: slice) -> torch.Tensor:
    inputs = {name: torch.cat([x[name] for x, _ in batches()])[part] for name in batches()[0][0]}
    with torch.no_grad():
        return torch.logit(
            model.double()(**{n: x.double() if n == "price" else x for n, x in inputs.items()})
        )


def test_the_run_has_the_numbers_of_the_module(folder: Path) -> None:
    labels = torch.cat([y for _, y in batches()])[320:]
    logits = _logits(build(), slice(320, 400))
    pairs = logits[labels == 1][:, None] - logits[labels == 0]
    metrics = json.loads((folder / "run/metrics.json").read_text())
    assert metrics["test/auroc"] == pytest.approx((pairs > 0).double().mean().item(), abs=1e-9)
    found = AttributionFile.load(folder / "run/attributions.parquet").sample(50)
    assert found.features == ("price", "user", "item")
    assert (found.logits - _logits(build(), slice(280, 320))[found.rows]).abs().max() < 1e-4
    assert found.delta.abs().max() < 1e-2 * found.logits.abs().mean()
    plan = json.loads((folder / "run/plan.json").read_text())
    assert plan["layers"]["tower.0"]["kept"] == [4, 5, 6, 7, 8, 9]
    certificate = json.loads((folder / "run/certificate.json").read_text())
    assert certificate["max_abs_logit_difference"] < 1e-9
    assert "own_clicks:build on own_clicks:batches" in (folder / "run/report.html").read_text()


def test_a_run_is_opened_only_by_a_command_that_names_or_trusts_its_code(command: Any) -> None:
    code, said = command("verify", "run.dir=run")
    assert code == 2
    assert "own_clicks:batches is code, which runs only if the command itself asks for it" in said
    assert "glassrec verify run.dir=run --trust" in said
    assert command("verify", "run.dir=run", CODE[0])[0] == 2, "one of two is not enough"
    for words in (CODE, ["--trust"]):
        code, said = command("verify", "run.dir=run", *words)
        assert code == 0, said
        assert "everything is as recorded" in said
    whole = [*CHOICES, *CODE, "explain.method.steps=512", "data/split=by_time"]
    for words in (whole, ["--trust"], CODE):
        code, said = command("run", *words, "run.dir=run")
        assert (code, "nothing to make" in said) == (0, True), said
    assert command("verify", "run.dir=run")[0] == 2, "trust ends with its command"
    assert command("run", "run.dir=run", "--trust", "-m", "seed=1,2")[0] == 2


def test_new_raw_rows_are_refused(folder: Path, command: Any) -> None:
    for verb in ("predict", "explain"):
        code, said = command(verb, "run.dir=run", "rows=own_clicks.py")
        assert (code, "is a run of an imported model, which reads no raw rows" in said) == (2, True)
    code, said = command("export", "run.dir=run", "--trust")
    assert (code, "an imported model is exported in Python" in said) == (2, True)


def test_a_change_of_the_users_code_is_noticed(folder: Path, command: Any) -> None:
    shutil.copytree(folder / "run", folder / "changed")
    with (folder / "own_clicks.py").open("a") as file:
        file.write("# changed\n")
    code, said = command("verify", "run.dir=changed", "--trust")
    shutil.copy(MODULE, folder / "own_clicks.py")
    assert code == 1
    assert "what came from outside: data.own_clicks.py is" in said


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("model.factory=own_click:build", 2, "no module 'own_click' in"),
        ("model.factory=own_click:build", 2, "did you mean 'own_clicks'?"),
        ("model.factory=own_clicks:biuld", 2, "no callable 'biuld'; did you mean 'build'?"),
        ("model.factory=own_clicks:number", 2, "no callable 'number'"),
        ("model.factory=own_clicks", 2, "'own_clicks' is not of the form my.module:build"),
        ("model.factory=own_clicks:raises", 1, "raises fails at {raises}: KeyError: 'nothing'"),
        ("model.factory=own_clicks:no_module", 1, "gives a int; it must be a torch.nn.Module"),
        ("model.factory=broken_code:build", 1, "broken_code.py:1: SyntaxError"),
        ("data.factory=own_clicks:empty", 1, "own_clicks:empty has no batches"),
        ("data.factory=own_clicks:no_module", 1, "returns no iterable of batches: int"),
        ("data.factory=own_clicks:other_shape", 1, "batch 3: price has the shape (100, 2)"),
        ("data.factory=own_clicks:other_names", 1, "batch 3: "),
        ("data.factory=own_clicks:missing_number", 1, "row 208: price is nan; fill it"),
        ("data.factory=own_clicks:id_outside", 1,
         "row 208: item is 25, and its table item.weight has the rows 0 to 19"),
        ("data.factory=own_clicks:wrong_label", 1, "a label is 3; it must be 0 or 1"),
        ("data.factory=own_clicks:few_labels", 1, "batch 3: 100 rows have labels of shape (3,)"),
        ("data.factory=own_clicks:no_pair", 1, "batch 3 is a dict, and no pair (inputs, labels)"),
        ("data.factory=own_clicks:stops", 1, "stops fails at {stops}: OSError: the disk is gone"),
        ("data.labels=false", 1, "missing a required argument"),
        ("data.names=[a,b]", 2, "2 names for the 3 columns user, item and price"),
        ("data.path=own_clicks.py", 2, "give one of data.factory=my_model:loader and data.path"),
        ("model.factory=null", 2, "model.factory: a value is needed"),
        ("trainer.max_epochs=1", 2, "1 is not allowed with an imported model, which is"),
        ("objective=sparse", 2, "group_lasso: 0.3 is not allowed with an imported"),
        ("prune.level=domain", 2, "domain is not allowed with an imported model, whose"),
        ("explain.baseline=unseen", 2, "unseen is not allowed with an imported model, whose ids"),
        ("data/split=leave_one_out", 2, "splits.LeaveOneOut is not allowed with"),
        ("data.labels=false explain.significance=labels", 2,
         "explain.significance: labels needs labels, and there are none"),
        ("model=gmf ~model.factory", 2, "model=imported and data=batches go together"),
    ],
)  # fmt: skip
def test_errors(folder: Path, command: Any, words: str, code: int, message: str) -> None:
    (folder / "broken_code.py").write_text("def build(:")
    chosen = [] if words.startswith("model=gmf") else CODE[:1]
    choices = [w for w in CHOICES if not words.startswith("model=gmf") or w != "model=imported"]
    given = [w for w in words.split() if not w.startswith("~")]
    found, said = command("run", *choices, *chosen, CODE[1], *given, "run.dir=wrong")
    lines = {
        n: marked_line(str(MODULE), n).replace("click_model", "own_clicks")
        for n in ("raises", "stops")
    }
    expected = message.format(folder=folder, **lines) if "{" in message else message
    assert found == code, said
    assert expected.replace("fails at ", "") in said.replace(f"fails at {folder}/", ""), said
    assert "Traceback" not in said
    assert code == 1 or not (folder / "wrong/record.json").exists()
    shutil.rmtree(folder / "wrong", ignore_errors=True)


class _Evil:
    def __reduce__(self) -> Any:
        return open, ("unpickled", "w")


def test_nothing_is_unpickled_or_imported_unasked(folder: Path, command: Any) -> None:
    (folder / "evil.pt").write_bytes(pickle.dumps(_Evil()))
    (folder / "evil_code.py").write_text("open('unpickled', 'w')\nbuild = 3\n")
    torch.save(_Evil(), folder / "evil.pt")
    choices = [*CHOICES, CODE[1], "run.dir=evil"]
    code, said = command("run", *choices, "model.weights=evil.pt")
    assert (code, "is code, which runs only if" in said) == (2, True)
    assert command("run", *choices, CODE[0], "model.weights=evil.pt")[0] == 1
    (folder / "own/experiment").mkdir(parents=True)
    (folder / "own/experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: imported\n"
        "  - override /data: batches\nmodel:\n  factory: evil_code:build\n"
    )
    code, said = command("run", "experiment=mine", CODE[1], "run.dir=evil", "--config-dir", "own")
    assert (code, "model.factory: evil_code:build is code, which runs only if" in said) == (2, True)
    for target in ("glassrec.imported.factory.guarded", "glassrec.imported.factory.locate"):
        words = [f"optimizer={{_target_: {target}, _partial_: true}}", "run.dir=evil"]
        code, said = command("run", *words)
        assert (code, f"{target} is not allowed" in said) == (2, True), said
    assert not (folder / "unpickled").exists()
    assert command("run", *choices, "model.weights=evil.pt", "--trust")[0] == 1
    assert (folder / "unpickled").exists(), "the test would see it"


def test_a_whole_module_is_read_where_it_is_trusted(tmp_path: Path) -> None:
    torch.save(build(2.0), tmp_path / "whole.pt")
    found = build_module({"factory": None, "weights": tmp_path / "whole.pt"})
    assert torch.equal(_logits(found, slice(0, 400)), _logits(build(2.0), slice(0, 400)))


def test_weights_of_files_and_of_checkpoints(tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in build(2.0).state_dict().items()}
    torch.save(state, tmp_path / "plain.pt")
    save_file(state, tmp_path / "plain.safetensors")
    lightning = {"state_dict": {f"model.{n}": x for n, x in state.items()}, "epoch": 3}
    torch.save(lightning, tmp_path / "lightning.ckpt")
    torch.save({f"module.{n}": x for n, x in state.items()}, tmp_path / "ddp.pt")
    for path in sorted(tmp_path.iterdir()):
        model = build()
        load_weights(model, path)
        assert torch.equal(_logits(model, slice(0, 400)), _logits(build(2.0), slice(0, 400))), path
    state["towr.0.weight"], state["item.weight"] = state.pop("tower.0.weight"), torch.zeros(5, 3)
    torch.save(state, tmp_path / "wrong.pt")
    with pytest.raises(ValueError, match=r"wrong.pt does not fit ClickModel") as error:
        load_weights(build(), tmp_path / "wrong.pt")
    for part in ('"tower.0.weight"', "did you mean 'towr.0.weight'?", "item.weight", r"[5, 3]"):
        assert part in str(error.value)


def build_bags() -> nn.Module:
    torch.manual_seed(0)
    return Bags()


def bag_batches(outside: int = 0) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    batches = []
    for size in (30, 20):
        ids = [torch.randint(9, (2 * size,)) for _ in range(2)]
        ids[1][5] = outside if outside and size == 20 else ids[1][5]
        offsets = [torch.arange(0, 2 * size, 2)] * 2
        batches.append({"dense": torch.rand(size, 3), "offsets": offsets, "ids": ids})
    return batches


def test_bags_have_their_ids_and_refuse_others() -> None:
    model = partial(imported, factory=f"{__name__}:build_bags", arguments={}, weights=None)
    source = Batches(f"{__name__}:bag_batches", labels=False).of_model(model)
    data = source.load(seed=0)
    found = pd.concat([decode(data, split.batch) for split in data.splits.values()])
    expected = [f"{a}, {b}" for x in bag_batches() for a, b in x["ids"][0].reshape(-1, 2).tolist()]
    assert sorted(found["ids[0]"]) == sorted(expected)
    assert not data.labelled
    wrong = Batches(f"{__name__}:bag_batches", {"outside": -2}, labels=False).of_model(model)
    with pytest.raises(ValueError, match=r"row 33: ids\[1\] is -2, and its table tables.1.weight"):
        wrong.load(seed=0)


def _source(path: Path, factory: str = "click_model:build", **settings: Any) -> Batches:
    return Batches(path=path, **settings).of_model(
        partial(imported, factory=factory, arguments={}, weights=None)
    )


def test_a_file_gives_the_rows_of_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {n: torch.cat([x[n] for x, _ in batches()]) for n in batches()[0][0]}
    labels = torch.cat([y for _, y in batches()])
    save_file({**whole, "clicked": labels}, tmp_path / "rows.safetensors")
    torch.save({**whole, "clicked": labels}, tmp_path / "rows.pt")
    loader = Batches(factory="click_model:batches").of_model(
        partial(imported, factory="click_model:build", arguments={}, weights=None)
    )
    expected = loader.load(seed=3)
    monkeypatch.setattr("glassrec.imported.batches.CHUNK", 399)  # the last row alone is no batch
    for name in ("rows.safetensors", "rows.pt"):
        found = _source(tmp_path / name, label_key="clicked", names=["who", "what", "price"]).load(
            seed=3
        )
        for split, other in zip(found.splits.values(), expected.splits.values(), strict=True):
            assert all(map(torch.equal, split.batch, other.batch))
        values = decode(found, found.test.batch)
        assert [*values] == ["price", "who", "what"]
        assert values["who"].tolist() == [str(i) for i in found.test.batch.ids[:, 0].tolist()]
    with pytest.raises(ValueError, match=r"has no 'label'.*set data.labels=false"):
        _source(tmp_path / "rows.pt").load(seed=0)


@pytest.mark.parametrize("content", [{}, {"user": torch.tensor(3)}, [torch.zeros(3)]])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "rows.pt")
    with pytest.raises(ValueError, match=r"rows.pt (has no rows|holds a list)"):
        _source(tmp_path / "rows.pt", labels=False).load(seed=0)


def test_bags_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassrec.imported.batches.CHUNK", 10)
    ids = [torch.randint(9, (50,)) for _ in range(2)]
    content = {"dense": torch.rand(50, 3), "offsets": [torch.arange(50)] * 2, "ids": ids}
    torch.save(content, tmp_path / "bags.pt")
    source = _source(tmp_path / "bags.pt", "test_imported_command:build_bags", labels=False)
    data = source.load(seed=0)
    whole = pd.concat([decode(data, split.batch) for split in data.splits.values()])
    expected = pd.DataFrame({"ids[0]": ids[0].numpy(), "ids[1]": ids[1].numpy()}).astype(str)
    assert sorted(whole[[*expected]].agg("-".join, axis=1)) == sorted(
        expected.agg("-".join, axis=1)
    )
    assert not data.labelled
    ids[1][33] = -2
    torch.save(content, tmp_path / "bags.pt")
    with pytest.raises(ValueError, match=r"row 34: ids\[1\] is -2, and its table tables.1.weight"):
        source.load(seed=0)


def test_a_run_without_labels_says_so(folder: Path, command: Any) -> None:
    words = [
        CODE[0],
        "data.factory=own_clicks:unlabelled",
        "data.labels=false",
        "run.dir=unlabelled",
    ]
    code, said = command("run", *CHOICES, *words)
    assert code == 0, said
    metrics = json.loads((folder / "unlabelled/metrics.json").read_text())
    assert {name.split("/")[-1] for name in metrics if "test/" in name} == {"top10_agreement"}
    assert metrics["flops"] > metrics["pruned/flops"] > 0
    report = (folder / "unlabelled/report.html").read_text()
    assert "There are no labels, so that the quality of the predictions is not known." in report
    assert "The model, own_clicks:build, was trained elsewhere." in report
    assert "400 rows of own_clicks:unlabelled, in three splits." in report
    assert command("verify", "run.dir=unlabelled", "--trust")[0] == 0


def test_the_guide_shows_a_command_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (Path(__file__).parents[2] / "docs/guide/imported.md").read_text(encoding="utf-8")
    section = guide[guide.index("## From the command line") :]
    (code, command, shown) = re.search(
        r"```python\n# my_model.py\n(.*?)```\n\n```sh\nglassrec (.*?)\n```.*?```\n(.*?)```",
        section,
        re.S,
    ).groups()  # type: ignore[union-attr]
    (tmp_path / "my_model.py").write_text(code)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), *QUICK, "prune/curves=none"]) == 0
    said = capsys.readouterr().out
    certain = [
        line for line in shown.splitlines() if "neurons were pruned" in line or "parameters" in line
    ]
    assert len(certain) == 2
    assert all(line in said for line in certain)
