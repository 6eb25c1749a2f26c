import sys
from pathlib import Path

import pytest
import yaml

from glassrec.config import compose as config
from glassrec.config import field_types, groups, targets
from glassrec.config.check import check

CHOICES = [(slot, name) for slot, names in groups.options().items() for name in names]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(*words: str, stage: str = "run", extra: Path | None = None) -> tuple[str, ...]:
    try:
        config.prepare(stage, words, extra)
    except config.ConfigError as error:
        return error.problems
    return ()


# --- configs/ ------------------------------------------------------------------------------------


def test_the_root_holds_the_fields_of_the_pipeline_in_their_order():
    from dataclasses import fields

    from glassrec.pipeline import Pipeline

    assert list(config.compose("run", [])) == [field.name for field in fields(Pipeline)]


@pytest.mark.parametrize(("slot", "name"), CHOICES, ids=["/".join(each) for each in CHOICES])
def test_every_choice_fits_the_code(slot, name):
    if "/" in slot:  # a slot in a slot belongs to some choices: those that list it
        owners = [f for f in (groups.configs_folder() / slot).parent.glob("*.yaml")
                  if f"- {slot.split('/')[1]}:" in f.read_text()]  # fmt: skip
        words = [f"{slot.split('/')[0]}={owners[0].stem}", f"{slot}={name}"]
    else:
        words = [f"{slot}={name}"]
    found = check(config.compose("run", words))
    assert [problem for problem in found if "a value is needed" not in problem] == []


PATHS = [each for each in CHOICES if each[0] == "data" and each[1] != "batches"]
"""Batches come from a callable, too, and with model=imported."""


@pytest.mark.parametrize(("slot", "name"), PATHS)
def test_only_paths_are_left_for_the_user_to_fill_in(slot, name):
    assert all(p.endswith("=PATH") for p in problems(f"{slot}={name}"))


NOT_OURS = (
    "experiment", "optimizer", "table_optimizer", "scheduler", "callbacks", "logger", "metrics",
    "debug",
)  # fmt: skip
OURS = [
    (slot, name)
    for slot, name in CHOICES
    if "/" not in slot and slot not in NOT_OURS and (slot, name) != ("evaluation", "none")
]


@pytest.mark.parametrize(("slot", "name"), OURS, ids=["/".join(each) for each in OURS])
def test_yaml_files_spell_out_every_parameter(slot, name):
    node = config.compose("run", [f"{slot}={name}"])[slot]
    parameters = targets.signature(targets.resolve(node["_target_"])).parameters
    assert {
        name
        for name, parameter in parameters.items()
        if field_types.field_type(parameter).is_setting or not parameter.required
    } <= set(node)


def test_a_choice_on_the_command_line_wins_over_the_experiment():
    (name,) = [n for s, n in CHOICES if s == "experiment" and n.startswith("ncf")]
    composed = config.compose("run", ["model=gmf", f"experiment={name}", "trainer.max_epochs=7"])
    assert composed["data"]["_target_"].endswith(".NCF")
    assert composed["model"]["_target_"].endswith(".GMF")
    assert composed["trainer"]["max_epochs"] == 7


# --- what is wrong with a command ----------------------------------------------------------------

WRONG = {
    "model=neumff": "model=neumff: there is no such option; did you mean 'neumf'? (choices: ",
    "experiment=nothing": "experiment=nothing: there is no such option (choices: ",
    "modle=gmf": "modle: there is no setting 'modle'; did you mean 'model'?",
    "data/splitt=random": "data/splitt: there is no such config group; did you mean 'data/split'?",
    "data/split=random": "data/split: the chosen data has no such group; leave it out",
    "trainer.max_epoch=3": "trainer.max_epoch: Trainer has no parameter 'max_epoch'; "
    "did you mean 'max_epochs'?",
    "+model.zzz=3": "model.zzz: DLRM has no parameter 'zzz'; it has data, embedding",
    "trainer.max_epochs=-1": "trainer.max_epochs: -1 is not allowed; must be >= 0",
    "trainer.max_epochs='3'": "trainer.max_epochs: '3' is not allowed; must be a whole number",
    "model.bottom=[64,0]": "model.bottom[1]: 0 is not allowed; must be >= 1",
    "optimizer.betas=[0.9]": "optimizer.betas: [0.9] is not allowed; must be a longer list",
    "seed=true": "seed: True is not allowed; must be a whole number",
    "seed=-1": "seed: -1 is not allowed; must be >= 0",
    "data=ncf": "data.root: a value is needed, e.g. data.root=PATH",
    "~seed": "seed: a value is needed, e.g. seed=NUMBER",
    "trainer=null": "trainer=null: there is no such option (choices: auto",
    "trainer._target_=???": "trainer._target_: ",
    "explain=3": "explain=3: there is no such option",
    "++explain=3": "explain: 3 is not allowed; must be settings with a _target_",
    "+run.config={}": "run.config: Run has no parameter 'config'",
    "model._target_=glassrec.models.ncff.GMF": "model._target_: no module 'ncff' in "
    "glassrec.models; did you mean 'ncf'?",
    "model._target_=os.system": "model._target_: no class 'system' in os; a target is",
    "model._partial_=false": "model: glassrec.models.dlrm.DLRM is not allowed; must be settings "
    "with `_partial_: true`",
    "+trainer._partial_=true": "trainer: glassrec.training.trainer.Trainer is not allowed; must be "
    "settings without",
    "+trainer._recursive_=false": "trainer._recursive_: Trainer has no parameter",
    "+model._args_=[1]": "model._args_: DLRM has no parameter",
    "model.embedding=${nope}": "model.embedding: Interpolation key 'nope' not found",
    "model.embedding=${oc.env:NO_SUCH_NAME}": "model.embedding: the environment variable "
    "NO_SUCH_NAME is not set",
    "model=gmf,mlp": "model=gmf,mlp: several values are a sweep, add -m",
    "foo": "'foo' is not of the form key=value",
    "model.bottom=[1": "'model.bottom=[1' cannot be read: ",
}


@pytest.mark.parametrize(("word", "problem"), WRONG.items(), ids=WRONG)
def test_one_wrong_word_gives_one_problem(word, problem):
    (found,) = problems(word)
    assert found.startswith(problem)


def test_all_problems_are_told_at_once():
    found = problems("seed=x", "model=gmf", "model.factor=8", "trainer.patience=0", "data=ncf")
    assert [problem.split(":")[0] for problem in found] == [
        "seed", "data.root", "model.factor", "trainer.patience",
    ]  # fmt: skip


def test_a_missing_directory_is_told_with_its_absolute_path(folder):
    (found,) = problems("data=ncf", "data.root=no")
    assert found == f"data.root: {folder}/no is not allowed; must be an existing directory"


def test_paths_are_absolute_in_the_checked_config(folder):
    (folder / "here").mkdir()
    checked = config.prepare("run", ["data=ncf", "data.root=here", "run.dir=there"])
    assert checked["data"]["root"] == folder / "here"
    assert checked["run"]["dir"] == folder / "there"
    assert config.plain(checked)["data"]["root"] == str(folder / "here")


def test_interpolations_are_values(monkeypatch):
    monkeypatch.setenv("PROJECT", "mine")
    words = ["tracker=wandb", "tracker.project=${oc.env:PROJECT}", "data.generator_seed=${seed}"]
    checked = config.prepare("run", [*words, "seed=5"])
    assert (checked["tracker"]["project"], checked["data"]["generator_seed"]) == ("mine", 5)


# --- nothing is called that was not checked ------------------------------------------------------

OWN = """
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from annotated_types import Ge
from glassrec.models.ncf import GMF

class Own(GMF):
    def __init__(self, data, factors: Annotated[int, Ge(2)] = 2, anything: Any = None, *,
                 table: Mapping[str, Any] = {}, **more):
        super().__init__(data, factors)

open("imported", "w")
"""


@pytest.fixture
def own(folder, monkeypatch):
    """A choice of the user's own: model=own, of a module that leaves a trace if imported."""
    (folder / "own_models.py").write_text(OWN)
    (folder / "own choices" / "model").mkdir(parents=True)
    text = "_target_: own_models.Own\n_partial_: true\nfactors: 3\n"
    (folder / "own choices" / "model" / "own.yaml").write_text(text)
    monkeypatch.syspath_prepend(folder)
    yield folder / "own choices"
    sys.modules.pop("own_models", None)


def test_a_model_of_the_users_own_is_checked_like_any_other(own, folder):
    assert problems("model=own", "model.factors=4", extra=own) == ()
    (found,) = problems("model=own", "model.factors=1", extra=own)
    assert found == "model.factors: 1 is not allowed; must be >= 2"
    assert not (folder / "imported").exists()


EVIL = "{_target_: os.system, command: touch called}"


@pytest.mark.parametrize(
    ("word", "key"),
    [
        (f"model.anything={EVIL}", "model.anything._target_"),
        (f"model.anything=[1,[{EVIL}]]", "model.anything[1][0]._target_"),
        (f"model.anything={{a:{{b:{EVIL}}}}}", "model.anything.a.b._target_"),
        (f"model.table={{a:{EVIL}}}", "model.table.a._target_"),
        (f"model.unlisted={EVIL}", "model.unlisted._target_"),
        ("model.anything={_target_: glassrec.__main__.main, argv: []}", "model.anything"),
        ("model.anything={_recursive_: false}", "model.anything._recursive_"),
        ("model.anything={_convert_: object}", "model.anything._convert_"),
        ("model.anything={_target_: '${seed}'}", "model.anything._target_"),
        (f"model.anything='${{oc.decode:\"{EVIL}\"}}'", "model.anything._target_"),
        (r"model.anything='\${oc.decode:x}'", "model.anything"),
    ],
)
def test_a_target_is_found_wherever_it_hides(own, folder, word, key):
    found = problems("model=own", word, extra=own)
    assert [problem.split(":")[0] for problem in found] == [key]
    assert not (folder / "called").exists()
    assert not (folder / "imported").exists()


def test_every_problem_is_found_before_the_first_target_is_imported(own, folder):
    assert problems("model=own", "trainer._target_=os.system", extra=own)
    assert not (folder / "imported").exists()
    config.build(config.prepare("run", ["model=own"], own))
    assert (folder / "imported").exists()


# --- building ------------------------------------------------------------------------------------


def test_parts_are_built_of_plain_values(folder):
    from glassrec.data.ncf_files import NCF

    words = ["data=ncf", f"data.root={folder}", "model=dlrm", "optimizer=sgd", "optimizer.lr=2"]
    parts = config.build(config.prepare("run", words))
    assert parts["data"] == NCF(root=folder)
    assert type(parts["data"].root) is type(folder)
    assert type(parts["model"].keywords["bottom"]) is list
    assert parts["optimizer"].keywords["lr"] == 2.0
    assert "run" not in parts


@pytest.mark.parametrize(
    "words",
    [["optimizer.lr=-1"], ["optimizer.betas=[0.9,2]"],
     ["table_optimizer=sparse_adam", "table_optimizer.lr=-1"]],
)  # fmt: skip
def test_an_optimiser_is_tried_before_the_data_is_read(words):
    checked = config.prepare("run", words)
    with pytest.raises(config.ConfigError, match=rf"^{words[0].split('.')[0].split('=')[0]}: Inv"):
        config.build(checked)


def test_without_a_choice_the_table_has_no_optimiser_of_its_own():
    assert config.build(config.prepare("run", []))["table_optimizer"] is None
    (found,) = problems("table_optimizer=rowwise_adagrad", "table_optimizer.lr=0.0")
    assert found == "table_optimizer.lr: 0.0 is not allowed; must be > 0.0"


# --- run.dir -------------------------------------------------------------------------------------


def directory(*words: str, sweep: bool = False) -> Path:
    return config.prepare("run", words, sweep=sweep)["run"]["dir"]


def test_the_directory_is_named_after_the_experiment(folder):
    found = directory("model=gmf", "data.rows=100")
    assert found.parent == folder / "runs"
    assert found.name.startswith("planted-gmf-")
    assert len(found.name) == len("planted-gmf-") + 8


def test_one_experiment_has_one_directory():
    same = [[], ["trainer.accelerator=cpu"], ["prune.level=sample"], ["optimizer.lr=1e-3"],
            ["trainer=cpu"], ["tracker=none"]]  # fmt: skip
    assert len({directory(*words) for words in same}) == 1


def test_two_experiments_never_share_a_directory(folder):
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    other = [[], ["seed=1"], ["model=mlp"], ["model=gmf", "model.factors=4"],
             ["optimizer.lr=0.1"], ["table_optimizer=sparse_adam"], ["trainer.batch_size=8"],
             ["data.rows=1000"],
             ["data=ncf", "data.root=a"], ["data=ncf", "data.root=b"]]  # fmt: skip
    assert len({directory(*words) for words in other}) == len(other)


def test_another_start_is_another_directory(folder):
    for name in ("one", "other"):
        (folder / name).mkdir()
    (folder / "weights.safetensors").touch()
    starts = ["null", "one", "other", "weights.safetensors"]
    found = [directory(f"start={start}") for start in starts]
    assert len(set(found)) == 4
    assert directory(f"start={folder / 'one'}") == found[1]
    assert config.prepare("run", ["start=one"])["start"] == folder / "one"


def test_each_seed_starts_from_the_same_seed_s_run(folder):
    (folder / "many" / "seed_1").mkdir(parents=True)
    (folder / "many" / "seed_1" / "weights.safetensors").touch()
    checked = config.prepare("run", ["start=many", "seeds=[1,2]"])
    starts = [config.of_seed(checked, seed)["start"] for seed in (1, 2)]
    assert starts == [folder / "many" / "seed_1", folder / "many"]


def test_jobs_of_a_sweep_over_pruning_do_not_meet():
    levels = [directory(f"prune.level={level}", sweep=True) for level in ("data", "sample")]
    assert len(set(levels)) == 2


@pytest.fixture
def run(folder):
    """A run directory as `Run` leaves it."""
    words = ["model=gmf", "model.factors=3", "seed=7", "explain.select.rows=11"]
    saved = config.plain(config.prepare("run", words))
    del saved["run"]
    (folder / "old run").mkdir()
    (folder / "old run" / "config.yaml").write_text(yaml.safe_dump(saved, sort_keys=False))
    (folder / "old run" / "record.json").write_text("{}")
    return "run.dir='old run'"


def test_a_later_stage_takes_the_saved_configuration_and_lays_the_words_over_it(run, folder):
    checked = config.prepare("prune", [run, "prune.level=sample", "trainer.accelerator=auto"])
    assert checked["run"]["dir"] == folder / "old run"
    assert (checked["seed"], checked["model"]["factors"]) == (7, 3)
    assert (checked["explain"]["select"]["rows"], checked["prune"]["level"]) == (11, "sample")


def test_a_choice_replaces_a_saved_node(run):
    checked = config.prepare("explain", [run, "explain=default", "explain.neurons.steps=3"])
    fresh = config.prepare("run", ["explain.neurons.steps=3"])
    assert checked["explain"] == fresh["explain"]


def test_a_choice_of_the_users_own_replaces_a_saved_node(run, folder):
    (folder / "extra" / "prune").mkdir(parents=True)
    text = "_target_: glassrec.prune.pruner.Pruner\nlevel: sample\n"
    (folder / "extra" / "prune" / "mine.yaml").write_text(text)
    checked = config.prepare("prune", [run, "prune=mine"], folder / "extra")
    assert checked["prune"] == {"_target_": "glassrec.prune.pruner.Pruner", "level": "sample"}


@pytest.mark.parametrize("stage", ["run", "train"])
def test_a_run_is_opened_again_unless_a_word_is_about_the_experiment(run, stage):
    opened = config.prepare(stage, [run, "prune.level=sample"])
    assert (opened["seed"], opened["explain"]["select"]["rows"]) == (7, 11)
    same = config.prepare(stage, [run, "model=gmf", "model.factors=3", "seed=7"])
    assert same["explain"]["select"]["rows"] != 11


@pytest.mark.parametrize(
    ("word", "key"),
    [("model.factors=4", "model.factors"), ("seed=8", "seed"), ("model=mlp", "model._target_"),
     ("trainer.max_epochs=99", "trainer.max_epochs"), ("optimizer=sgd", "optimizer._target_"),
     ("experiment=ncf_ml1m", "experiment")],
)  # fmt: skip
def test_the_experiment_of_a_run_cannot_be_changed(run, word, key):
    (found,) = problems(run, word, stage="explain")
    assert found.startswith(f"{key}: ")
    assert "name another run.dir" in found


@pytest.mark.parametrize("stage", ["explain", "prune", "evaluate"])
def test_later_stages_need_a_run(stage, folder):
    assert problems(stage=stage)[0].startswith("run.dir: a value is needed, e.g. run.dir=PATH")
    (found,) = problems("run.dir=no", stage=stage)
    assert found == "run.dir: no is no run directory, it holds no config.yaml"
    assert not (folder / "no").exists()


@pytest.mark.parametrize("text", ["", "[1", "- 1", "a: ${b}"])
def test_a_damaged_configuration_is_told(run, folder, text):
    Path("old run", "config.yaml").write_text(text)
    before = sorted(Path("old run").iterdir())
    assert problems(run)
    assert sorted(Path("old run").iterdir()) == before


def test_misspelt_words_are_found_on_an_existing_run_too(run):
    (found,) = problems(run, "prune.levle=data", stage="prune")
    assert found == "prune.levle: Pruner has no parameter 'levle'; did you mean 'level'?"
    assert problems(run, "~prune.level", stage="prune")[0].startswith("~prune.level: a run keeps")


def test_values_over_remembered_choices_are_what_hydra_composes(monkeypatch):
    import hydra
    from omegaconf import OmegaConf

    def whole(words):
        with config.started():
            composed = hydra.compose("run", overrides=config.forced(words))
        return OmegaConf.to_container(composed, resolve=True)

    choices = ["model=gmf", "explain/compare=none"]
    commands = [
        [*choices, "seed=1", "model.factors=8"],
        [*choices, "seed=2", "trainer.max_epochs=${seed}", "start='a b'"],
        [*choices, "optimizer={lr:0.5}", "++optimizer.betas=[0,0.5]", "~model.factors"],
    ]
    expected = [whole(words) for words in commands]
    asked = []
    real = hydra.compose
    monkeypatch.setattr(hydra, "compose", lambda *a, **k: asked.append(k) or real(*a, **k))
    config._chosen.cache_clear()
    assert [config.compose("run", words) for words in commands] == expected
    assert len(asked) == 2  # a deletion is Hydra's own, too
