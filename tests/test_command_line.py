import json
import os
import re
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import yaml

from glassrec import __version__
from glassrec.__main__ import main
from glassrec.config import groups
from glassrec.config.compose import compose
from glassrec.run import flat

STAGES = ["run", "train", "explain", "prune", "evaluate"]
SMALL = ["model=gmf", "data.rows=400", "trainer.max_epochs=1", "trainer.accelerator=cpu",
         "prune/curves=none"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own, and leaves the search path as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    yield tmp_path
    os.environ.pop("HYDRA_FULL_ERROR", None)


@dataclass
class Calls:
    """What would have run, and the errors that the jobs of a model raise."""

    all: list = field(default_factory=list)
    raises: dict[str, BaseException] = field(default_factory=dict)


@pytest.fixture
def executed(monkeypatch):
    """Pipelines are built as ever, and then not executed."""
    from glassrec.pipeline import Pipeline

    calls = Calls()

    def execute(self, stage, watch=None):
        calls.all.append((stage, self))
        for target, error in calls.raises.items():
            if target in self.run.config["model"]["_target_"]:
                raise error

    monkeypatch.setattr(Pipeline, "execute", execute)
    return calls


def glassrec(*words: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "glassrec", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# --- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_stages_slots_and_exit_codes(words, capsys):
    assert main(words) == 0
    said = capsys.readouterr().out
    listed = groups.options()
    assert all(f"  {stage} " in said for stage in STAGES)
    assert all(f"  {slot} " in said and ", ".join(names) in said for slot, names in listed.items())
    assert "Exit codes: 0 done; 1 " in said


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_has_a_help_of_its_own(stage, capsys):
    told = []
    for words in ([stage, "-h"], [stage, "--help"], ["help", stage], [stage, "help"]):
        assert main(words) == 0
        told.append(capsys.readouterr().out)
    assert len(set(told)) == 1
    assert told[0].startswith(f"Usage: glassrec {stage} [key=value ...]")
    assert "--dry-run" in told[0]


@pytest.mark.parametrize("stage", STAGES)
def test_the_defaults_in_the_help_are_those_of_the_configuration(stage, capsys):
    main([stage, "-h"])
    line = re.compile(r"^ {2}(\S+=\S+)", re.MULTILINE)
    words = line.findall(capsys.readouterr().out.split("Config groups")[0])
    assert words or stage == "evaluate"
    assert flat(compose("run", words)) == flat(compose("run", []))


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (
            "explain.baseline",
            ["type      str", "default   mean", "background:N", "attributions.pa"],
        ),
        (
            "prune.share",
            ["Interval(ge=0, lt=1)", "default   0.5", "prune.level=budget", "plan.json"],
        ),
        ("explain/method", ["shapley ", "(default)", "lime "]),
        ("model.embedding", ["default   16 in model=dlrm", "32 in dcn", "run.dir"]),
        ("seed", ["default   0", "of weights, random splits"]),
        ("data.columns", ["a value is needed", "data=table"]),
        ("trainer.gradient_clip_val", ["float", "default   null"]),  # of lightning.Trainer
    ],
)
def test_a_setting_is_explained(key, parts, capsys):
    assert main(["help", key]) == 0
    said = capsys.readouterr().out
    assert all(part in said for part in parts), said


def test_every_setting_can_be_explained():
    from glassrec.config.reference import explain_setting, settings

    composed = flat(compose("run", ["tracker=wandb"]))
    known = {key for key in composed if "._" not in key and not key.startswith("explain.compare.")}
    assert len(settings()) > 100
    assert all(explain_setting(key).startswith(f"{key}=") for key in settings())
    missing = {key for key in known if key not in settings() and not key.startswith("seed")}
    assert all(key.replace(".", "/") in groups.options() for key in missing)


@pytest.mark.parametrize("word", ["explain.baselin", "lr", "modle"])
def test_an_unknown_setting_gets_the_nearest_name(word, capsys):
    assert main(["help", word]) == 2
    said = capsys.readouterr().err
    near = {"explain.baselin": "explain.baseline", "lr": "optimizer.lr", "modle": "model"}[word]
    assert said.startswith(f"glassrec: error: {word}: ")
    assert near in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_completed(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "glassrec" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("glassrec ex", {"explain", "export"}),
        ("glassrec run model=g", {"model=gmf"}),
        ("glassrec prune prune.lev", {"prune.level="}),
        ("glassrec prune prune.level=b", {"prune.level=budget"}),
        ("glassrec run explain/meth", {"explain/method="}),
        ("glassrec run --mul", {"--multirun"}),
    ],
)
def test_what_the_shell_asks_for_is_completed(line, found, tmp_path):
    out = tmp_path / "completions"
    variables = os.environ | {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "COMP_LINE": line,
        "COMP_POINT": str(len(line)), "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n", "IFS": "\n",
        "_ARGCOMPLETE_IFS": "\n",
    }  # fmt: skip
    assert glassrec(env=variables).returncode == 0
    assert set(out.read_text().split()) == found


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"], ["run", "--version"]])
def test_version(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out == f"glassrec {__version__}\n"


def test_the_module_can_be_run(folder):
    done = glassrec("--version")
    assert (done.returncode, done.stdout) == (0, f"glassrec {__version__}\n")


# --- what is not imported, and how long it takes -------------------------------------------------

HEAVY = ("torch", "lightning", "captum", "pandas", "wandb", "matplotlib")


@pytest.mark.parametrize(
    ("words", "code", "absent"),
    [
        (["--help"], 0, (*HEAVY, "hydra", "pydantic", "yaml")),
        (["help", "run"], 0, (*HEAVY, "hydra", "pydantic", "yaml")),
        (["trian"], 2, (*HEAVY, "hydra")),
        (["help", "explain.baseline"], 0, (*HEAVY, "hydra", "pydantic")),
        (["help", "explain.baselin"], 2, (*HEAVY, "hydra", "pydantic")),
        (["completion", "bash"], 0, (*HEAVY, "hydra", "pydantic", "yaml")),
        (["run", "lr=0.1", "data=ml-100k"], 2, HEAVY),
        (["run", "--lr", "0.1"], 2, HEAVY),
        (["run", "model.widht=3", "trainer.max_epochs=-1"], 2, HEAVY),
        (["run", "model=neumff"], 2, HEAVY),
        (["prune", "run.dir=no"], 2, HEAVY),
        (["run", "--cfg", "job"], 0, HEAVY),
    ],
)
def test_answers_come_at_once_and_import_nothing_heavy(words, code, absent):
    program = (
        "import sys; from glassrec.__main__ import main; "
        f"code = main({words!r}); print(code, sorted(set({absent!r}) & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == f"{code} []", done.stderr
    # Processor time, half a second of it, as the clock on the wall also tells of other processes.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


# --- wrong commands ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "glassrec: error: 'trian' is no command; did you mean 'train'?"),
        (["xyz"], "glassrec: error: 'xyz' is no command; the first word is one of run,"),
        (["model=gmf"], "glassrec: error: 'model=gmf' is no command; did you mean glassrec run mo"),
        (["demo"], "glassrec: error: 'demo' is no command; did you mean glassrec run"),
        (["list"], "glassrec: error: 'list' is no command; did you mean glassrec compare"),
        (["fit"], "glassrec: error: 'fit' is no command; did you mean glassrec train?"),
        (["multirun"], "glassrec: error: 'multirun' is no command; did you mean glassrec run -m?"),
        (["run", "modle=gmf"], "glassrec: error: modle: there is no setting 'modle'; did you"),
        (
            ["run", "--multi"],
            "glassrec: error: --multi: there is no such option; did you mean '--m",
        ),
        (
            ["run", "--seed", "1"],
            "glassrec: error: --seed: there is no such option; settings have no dashes: seed=1",
        ),
        (
            ["run", "--max-epochs=3"],
            "glassrec: error: --max-epochs: there is no such option; "
            "settings have no dashes; did you mean trainer.max_epochs=3?",
        ),
        (
            ["run", "--gpus", "2"],
            "glassrec: error: --gpus: there is no such option; settings have "
            "no dashes; did you mean trainer=gpu trainer.devices=2?",
        ),
        (
            ["run", "--lr", "0.1"],
            "glassrec: error: --lr: there is no such option; "
            "settings have no dashes; did you mean optimizer.lr=0.1?",
        ),
        (["run", "-j", "2", "--dry-run"], "glassrec: error: --jobs: it is for a sweep, add -m"),
        (
            ["run", "data=/tmp/rows.csv"],
            "glassrec: error: data=/tmp/rows.csv: there is no such option",
        ),
        (
            ["run", "--config-name", "mine"],
            "glassrec: error: --config-name: there is no such "
            "option; choose experiment=NAME, or --config-dir DIR",
        ),
        (["run", "--config-dir", "a" * 300], "glassrec: error: --config-dir: 'aaa"),
        (["run", "run.dir=" + "a/" * 2500], "glassrec: error: run.dir: 'a/a/"),
        (["train", "run.dir=" + "a" * 256], "glassrec: error: run.dir: 'aaa"),
        (["prune", "run.dir=" + "a" * 256], "glassrec: error: run.dir: 'aaa"),
        (
            ["run", "seed=1180591620717411303424"],
            "glassrec: error: seed: 1180591620717411303424 is not allowed; must be < ",
        ),
        (
            ["run", "hydra.run.dir=x"],
            "glassrec: error: hydra.run.dir: it has no effect; did you mean run.dir=x?",
        ),
        (["run", "--config-dir", "no"], "glassrec: error: --config-dir: no is not an existing"),
        (["run", "-m", "foo"], "glassrec: error: 'foo' is not of the form key=value"),
        (["run", "optimizer.lr=-1"], "glassrec: error: optimizer: Invalid learning rate: -1"),
        (["explain"], "glassrec: error: run.dir: a value is needed, e.g. run.dir=PATH"),
    ],
)
def test_a_wrong_command_ends_with_2_and_leaves_nothing(words, said, capsys, folder, executed):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(said)
    assert captured.out == ""
    assert executed.all == []
    assert list(folder.iterdir()) == []


def test_each_problem_has_its_line(capsys):
    assert main(["run", "seed=x", "trainer.max_epochs=-1"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "glassrec: error: seed: 'x' is not allowed; must be a whole number",
        "glassrec: error: trainer.max_epochs: -1 is not allowed; must be >= 0",
    ]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("word", ["trainer=gpu", "trainer.accelerator=gpu"])
def test_a_gpu_that_is_not_there_is_told_before_anything_is_read(word, capsys, folder, executed):
    words = ["run", "data=ncf", f"data.root={folder}", "model=gmf", word]
    assert main(words) == 2
    assert "trainer.accelerator=cpu" in capsys.readouterr().err
    assert executed.all == []
    assert list(folder.iterdir()) == []


def test_a_directory_that_cannot_be_made_ends_with_2(folder, capsys, monkeypatch, executed):
    Path("file").touch()
    assert main(["run", "run.dir=file/run"]) == 2
    assert capsys.readouterr().err == (
        f"glassrec: error: run.dir: {folder}/file is not a directory; name another\n"
    )
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)
    assert main(["run", "run.dir=new/run"]) == 2
    assert f"run.dir: {folder} is not writable" in capsys.readouterr().err
    assert executed.all == []


def test_a_dry_run_checks_everything_and_does_nothing(folder, capsys, executed):
    assert main(["run", "--dry-run", *SMALL, "run.dir=here"]) == 0
    said = capsys.readouterr().out
    assert f"{folder}/here would be made" in said
    assert "train, explain, prune, evaluate: data Planted, model GMF" in said
    assert main(["run", "--dry-run", "-m", "model=gmf,mlp", "seeds=[0,1]"]) == 0
    said = capsys.readouterr().out
    assert all(f"(model={name}, seed {seed})" in said for name in ("gmf", "mlp") for seed in (0, 1))
    assert main(["run", "--dry-run", "optimizer.lr=-1"]) == 2
    assert executed.all == []
    assert list(folder.iterdir()) == []


def test_a_search_refuses_a_seed_that_optuna_refuses_and_a_path_that_is_too_long(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["search", "model=gmf,mlp", "--seed", str(2**32)])
    assert stop.value.code == 2
    assert "'4294967296' is not allowed; must be a number from 0 to 4294967295" in (
        capsys.readouterr().err
    )
    assert main(["search", "model=gmf,mlp", "--dir", "a" * 300]) == 2
    assert "glassrec: error: --dir: 'aaa" in capsys.readouterr().err


# --- right commands ------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["run", "train"])
def test_a_job_gets_its_parts_its_config_and_its_command(stage, folder, executed):
    words = [*SMALL, "run.dir=here", "seed=3"]
    assert main([stage, *words]) == 0
    ((found, pipeline),) = executed.all
    assert found == stage
    assert pipeline.run.dir == folder / "here"
    assert pipeline.run.command == ["glassrec", stage, *words]
    assert (pipeline.seed, pipeline.data.rows, pipeline.trainer.max_epochs) == (3, 400, 1)
    assert json.loads(json.dumps(pipeline.run.config)) == pipeline.run.config
    assert pipeline.run.config["run"]["dir"] == str(folder / "here")


def test_a_model_in_the_users_folder_is_found(folder, executed):
    source = "from glassrec.models.ncf import GMF\nclass Own(GMF): ...\n"
    Path("own_two_tower.py").write_text(source)
    Path("mine", "model").mkdir(parents=True)
    Path("mine", "model", "own.yaml").write_text("_target_: own_two_tower.Own\n_partial_: true\n")
    assert main(["run", "--config-dir", "mine", "model=own", "model.factors=2"]) == 0
    ((_, pipeline),) = executed.all
    assert pipeline.model.func.__name__ == "Own"
    assert pipeline.run.command[2:4] == ["--config-dir", "mine"]


def test_the_configuration_is_printed(capsys, executed):
    assert main(["run", "model=gmf", "--cfg", "job", "seed=4"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["seed"], printed["model"]["_target_"]) == (4, "glassrec.models.ncf.GMF")
    assert executed.all == []


@pytest.mark.parametrize("words", [["--info", "searchpath"], ["--cfg", "hydra"]])
def test_hydra_tells_of_itself(words, folder):
    done = glassrec("run", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hydra" in done.stdout
    assert list(folder.iterdir()) == []


# --- failures on the way -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("bad row 3"), OSError("disk full")])
def test_a_failure_ends_with_1_and_no_traceback(error, capsys, executed):
    executed.raises["GMF"] = error
    assert main(["run", *SMALL]) == 1
    assert capsys.readouterr().err == f"glassrec: error: {error}\n"


def test_a_bug_keeps_its_traceback(executed):
    executed.raises["GMF"] = RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["run", *SMALL])


def test_an_interrupt_ends_with_130(capsys, executed):
    executed.raises["GMF"] = KeyboardInterrupt()
    assert main(["run", *SMALL]) == 130
    assert "interrupted; the same command goes on from here" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_in_training_ends_with_130(folder):
    command = [sys.executable, "-m", "glassrec", "train", *SMALL, "trainer.max_epochs=10000"]

    def as_in_a_terminal() -> (
        None
    ):  # a shell's background job ignores Ctrl-C, and so do its children
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("epoch 2/"))
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 130


def test_help_knows_options_of_a_folder_of_ones_own(tmp_path, capsys):
    file = tmp_path / "explain" / "method" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# My own method\n_target_: mine.Mine\nnoise: 1.5  # of the copies\n")
    own = ["--config-dir", str(tmp_path)]
    assert main(["help", "explain/method", *own]) == 0
    listed = capsys.readouterr().out
    assert "My own method" in listed
    assert "integrated_gradients" in listed
    assert main(["help", *own, "explain.method.noise"]) == 0
    assert "of the copies" in capsys.readouterr().out
    assert main(["help", "explain.method.noise"]) == 2  # it is not Glassrec's
    assert "explain.method.noise" in capsys.readouterr().err
