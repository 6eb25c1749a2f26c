"""What `glassrec help` prints. It needs the standard library alone."""

from __future__ import annotations

from collections.abc import Collection

from glassrec.config import groups

STAGES = {
    "run": "all four stages, one after the other",
    "train": "train the model, and keep the epoch that was best on validation",
    "explain": "attribute the predictions to the inputs, and score every neuron",
    "prune": "remove the neurons that do nothing, with a certificate",
    "evaluate": "compare quality and size before and after pruning",
}
AFTERWARDS = {
    "verify": "compute certificate and metrics again from the files, and list what differs",
    "export": "write the pruned model for use without Glassrec: a bundle for raw rows, and ONNX",
}
NEW_ROWS = {
    "predict": "score new raw rows, with reasons",
    "recommend": "rank items for users, with reasons",
}
ACROSS = {
    "compare": "show finished runs and sweeps side by side",
    "search": "let Optuna look for the best settings",
    "wandb-report": "write a W&B report of a group of runs",
}
OWN_PARSERS = NEW_ROWS | ACROSS
"""Commands whose arguments are not settings of an experiment."""

COMMANDS = STAGES | AFTERWARDS | OWN_PARSERS

_USAGE = """\
Usage: glassrec COMMAND [key=value ...] [options]

Stages (glassrec help COMMAND, glassrec help SETTING)
{stages}

With a finished run
{afterwards}

With a finished run and new rows or users (glassrec COMMAND --help)
{new_rows}

With many runs
{across}

Examples
  glassrec run                                  a demonstration on generated data, needs no file
  glassrec run model=neumf data=ncf data.root=PATH trainer.max_epochs=20 seed=1
  glassrec prune run.dir=runs/planted-dlrm-1a2b3c4d prune.level=sample
  glassrec verify run.dir=runs/planted-dlrm-1a2b3c4d
  glassrec verify run.dir=runs/planted-dlrm-1a2b3c4d rows=new.csv
  glassrec predict run.dir=runs/planted-dlrm-1a2b3c4d rows=new.csv reasons=3 out=scored.csv
  glassrec explain run.dir=runs/planted-dlrm-1a2b3c4d rows=new.csv out=attributions.csv
  glassrec recommend run.dir=runs/planted-dlrm-1a2b3c4d user=7 k=5 seen=drop_taken reasons=2
  glassrec run -m model=gmf,mlp trainer.batch_size=256,512
  glassrec run model=gmf seeds=[0,1,2]          mean and standard deviation of every metric
  glassrec help explain.baseline                what a setting means, and which values it takes
  eval "$(glassrec completion bash)"            complete commands and settings; also zsh and fish
"""
_GROUPS = """\
Config groups and their options (group=option; glassrec help group lists what they are)
{groups}
"""
_OPTIONS = """\
Options
  --config-dir DIR   also take options from your own YAML files: DIR/model/mine.yaml is model=mine
  --trust            run the callables and pickles that the settings name (model=imported)
  --cfg job          print the configuration and stop
  --dry-run          check the command, say where it would work and what is there, and stop
  -m, --multirun     run once for each combination of the values a,b,c that is not finished yet
  -j, --jobs N       N runs at a time; elsewhere: hydra/launcher=submitit_slurm, or ray
  --info, --hydra-help, --cfg hydra, --cfg all   what Hydra reports about itself
  --help, --version

Results go to run.dir, by default runs/<data>-<model>-<hash of the experiment> in this folder, so
the same command goes on where it stopped. All but run and train work on the run in run.dir.

Exit codes: 0 done; 1 a failure on the way, or a run that is not as verified; 2 the command is wrong
and nothing was run; 3 a trial that its search stopped early; 130 Ctrl-C; 141 the output is not
read any more (`| head`); 143 SIGTERM. After 130, 141, 143 and a kill the same command goes on.
"""

_TRAINING = """\
Frequent settings, with their defaults
  data=planted  model=dlrm  optimizer=adam  tracker=none     see the config groups below
  trainer=auto                   gpu or cpu; auto takes a GPU where there is one
  trainer.max_epochs=5           passes over the training rows
  trainer.batch_size=1024        rows a step
  trainer.patience=null          stop after so many epochs without a better one
  optimizer.lr=0.001             the learning rate
  seed=0                         of weights, random splits, batches and samples
  run.dir=null                   where results go; null: runs/<data>-<model>-<hash>
"""
_LATER = """\
It works on the run in run.dir, with the settings of that run, and makes only what is missing or
depends on a changed setting.
"""
CUT = """\
Several cuts of one run, each in run.dir/cuts/NAME, with one explanation and one table
  glassrec prune -m run.dir=R prune.level=budget prune.share=0.3,0.5,0.7
  glassrec prune run.dir=R cut=NAME prune.level=sample     a name of your own
  glassrec verify run.dir=R cut=NAME     likewise evaluate and export
"""
_DETAILS = dict.fromkeys((*STAGES, *AFTERWARDS), _LATER) | {
    "run": _TRAINING,
    "train": _TRAINING,
    "explain": _LATER
    + """
With rows=FILE it explains new raw rows instead, see glassrec explain rows= --help.

Frequent settings, with their defaults
  explain/method=integrated_gradients   how predictions are attributed to inputs
  explain/neurons=conductance           how neurons are scored
  explain.method.steps=32               nodes on the path from the baseline
  explain.select.rows=2000              how many rows are explained
  explain/compare=quick                 other methods beside it; none, sampled, all
""",
    "prune": _LATER
    + """
Frequent settings, with their defaults
  prune.level=data               the guarantee: domain, data, sample or budget
  prune/score=conductance        what ranks the neurons
  prune/curves=quick             quality against the share that is removed; none, all

"""
    + CUT,
    "verify": "It works on the run in run.dir as it is: other settings are refused.\n\n"
    "With rows=FILE it checks the certificate on new raw rows, see glassrec verify rows= --help.\n",
}


def manual() -> str:
    """All commands, config groups, options and exit codes."""
    lists = {"stages": STAGES, "afterwards": AFTERWARDS, "new_rows": NEW_ROWS, "across": ACROSS}
    usage = _USAGE.format(**{name: _table(words) for name, words in lists.items()})
    return "\n".join([usage, _groups(), _OPTIONS])


def manual_of(stage: str) -> str:
    """What one command does, its frequent settings, their config groups, and the options."""
    story = (STAGES | AFTERWARDS)[stage]
    usage = f"Usage: glassrec {stage} [key=value ...] [options]\n"
    own = _groups({stage} if stage in ("explain", "prune") else None)
    groups = [own] if "Frequent" in _DETAILS[stage] else []
    return "\n".join(
        [usage, f"{story[0].upper()}{story[1:]}.\n", _DETAILS[stage], *groups, _OPTIONS]
    )


def _groups(roots: Collection[str] | None = None) -> str:
    found = groups.options().items()
    choices = {k: v for k, v in found if roots is None or k.split("/")[0] in roots}
    return _GROUPS.format(groups=_table({name: ", ".join(each) for name, each in choices.items()}))


def _table(rows: dict[str, str]) -> str:
    width = max(13, *map(len, rows))
    return "\n".join(f"  {name:<{width}} {text}" for name, text in rows.items())
