"""Where the jobs of a sweep run, and how many at a time: on this machine, by submitit or by Ray.

An executor is chosen by `hydra/launcher=NAME`, as Hydra's launchers are, and its settings are
`hydra.launcher.KEY`: see `configs/hydra/executor`, or that folder of `--config-dir`.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import hydra
from omegaconf import OmegaConf

from glassrec.config.build import build_node
from glassrec.config.errors import ConfigError, readable_errors
from glassrec.config.overrides import parse, searching, started
from glassrec.sweep.sweep_job import run_job, run_numbered

EXTRAS = {"submitit": "slurm", "ray": "ray"}
"""The package of an executor, by the beginning of its name, and what installs it."""


class Executor(Protocol):
    """Runs jobs of a sweep."""

    def launch(self, directory: Path, numbers: Sequence[int]) -> None:
        """Run these jobs of the sweep in `directory`, and wait for their end."""


class LocalExecutor:
    """Jobs on this machine.

    Args:
        n_jobs: how many at the same time; -1 is the number of CPU cores. With more than one, each
            has its share of the cores in OMP_NUM_THREADS.
        ignored: settings of joblib, which have no effect any more.
    """

    def __init__(self, n_jobs: int = 1, **ignored: object) -> None:
        self.n_jobs = n_jobs

    def launch(self, directory: Path, numbers: Sequence[int]) -> None:
        """Run these jobs of the sweep in `directory`, and wait for their end."""
        at_once = self.n_jobs if self.n_jobs > 0 else os.cpu_count() or 1
        environment = thread_share(at_once)
        with ThreadPoolExecutor(at_once) as pool:
            for future in [pool.submit(run_job, directory, n, environment) for n in numbers]:
                future.result()


class SubmititExecutor:
    """Jobs of submitit: of SLURM, in processes of this machine, or one by one in this process.

    Args:
        cluster: slurm, local or debug.
        submitit_folder: for its files.
        settings: those of `submitit.AutoExecutor.update_parameters`, where they are not None;
            SLURM's own without `slurm_`.
    """

    def __init__(self, cluster: str, submitit_folder: str, **settings: Any) -> None:
        self.cluster, self.folder, self.settings = cluster, submitit_folder, settings

    def launch(self, directory: Path, numbers: Sequence[int]) -> None:
        """Run these jobs of the sweep in `directory`, and wait for their end."""
        import submitit

        shared = {"name", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb",
                  "timeout_min", "stderr_to_stdout"}  # fmt: skip
        given = {k: v for k, v in self.settings.items() if v not in (None, {})}
        of_slurm = {f"slurm_{k}": v for k, v in given.items() if k not in shared}
        requeues = of_slurm.pop("slurm_max_num_timeout", None)
        first = {} if requeues is None else {"slurm_max_num_timeout": requeues}
        executor = submitit.AutoExecutor(self.folder, cluster=self.cluster, **first)
        executor.update_parameters(**{k: v for k, v in given.items() if k in shared}, **of_slurm)
        jobs = executor.map_array(run_numbered, [str(directory)] * len(numbers), numbers)
        _wait_for_all(job.results for job in jobs)


class RayExecutor:
    """Tasks of Ray.

    Args:
        ray: `init`, the arguments of `ray.init`, and `remote`, of `ray.remote`: what each job
            needs, such as num_gpus; where they are not None.
    """

    def __init__(self, ray: Mapping[str, Mapping[str, Any]]) -> None:
        self.init, self.remote = (
            {k: v for k, v in ray.get(part, {}).items() if v is not None}
            for part in ("init", "remote")
        )

    def launch(self, directory: Path, numbers: Sequence[int]) -> None:
        """Run these jobs of the sweep in `directory`, and wait for their end."""
        import ray

        if not ray.is_initialized():
            ray.init(**self.init)
        task = ray.remote(**self.remote)(run_numbered) if self.remote else ray.remote(run_numbered)
        pending = [task.remote(str(directory), number) for number in numbers]
        _wait_for_all(lambda each=each: ray.get(each) for each in pending)  # type: ignore[misc]


def thread_share(at_once: int) -> dict[str, str]:
    """The variables that give each of several jobs its share of the CPU cores."""
    share = str(max((os.cpu_count() or 1) // at_once, 1))
    return {} if at_once == 1 else {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", share)}


def _wait_for_all(results: Iterable[Callable[[], object]]) -> None:
    """Wait for every job; a lost one, whose process ended with its machine, ends no other."""
    for result in results:
        try:
            result()
        except Exception:
            traceback.print_exc()


# --- which one -------------------------------------------------------------------------------


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides of jobs, and those that choose where they run; ConfigError for other sweepers."""
    jobs: list[str] = []
    executor: list[str] = []
    for override, parsed in zip(overrides, parse(overrides), strict=True):
        part = re.match(r"hydra[./](launcher|sweeper|sweep|job)\b", parsed.key_or_group)
        if part and part[1] == "sweeper":
            raise ConfigError(
                f"{override}: a sweep runs every combination; use glassrec search for the best one"
            )
        (executor if part else jobs).append(override)
    return jobs, executor


def choose_executor(
    overrides: Sequence[str], directory: Path, extra: Path | None = None
) -> tuple[Executor, Path]:
    """The executor that overrides choose, and the directory of the sweep: theirs, or `directory`.

    Raises:
        ConfigError: there is no such executor, it is not installed, or has no such setting.
    """
    for override in overrides:
        key, _, name = override.partition("=")
        package = name.partition("_")[0]
        if key == "hydra/launcher" and package in EXTRAS and find_spec(package) is None:
            raise ConfigError(f'{override} needs: pip install "glassrec[{EXTRAS[package]}]"')
    quoted = str(directory).replace("'", r"\'")
    place = [f"hydra.sweep.dir='{quoted}'", f"hydra.job.name={directory.name}"]
    chosen = [_of_executor(override) for override in overrides]
    if not any(override.startswith(_GROUP) for override in chosen):
        chosen.append(f"{_GROUP}=basic")
    try:
        with readable_errors(), started():
            config = hydra.compose(
                "run", overrides=[*searching(extra), *place, *chosen], return_hydra_config=True
            )
            settings = OmegaConf.to_container(config.executor, resolve=True)
            found = Path(config.hydra.sweep.dir).absolute()
    except ConfigError as error:
        text = str(error).replace("hydra/executor", "hydra/launcher")
        raise ConfigError(text.replace("'executor.", "'hydra.launcher.")) from None
    return build_node(settings), found


_GROUP = "+hydra/executor@executor"


def _of_executor(override: str) -> str:
    """An override of Hydra's launcher as one of an executor: Hydra has a schema for its own."""
    override = re.sub(r"^\+{0,2}hydra/launcher=", f"{_GROUP}=", override)
    return re.sub(r"^(\+{0,2})hydra\.launcher\.", r"\1executor.", override)


def parallel_overrides(jobs: int | None) -> list[str]:
    """The overrides for so many jobs at a time on this machine."""
    many = jobs is not None and jobs > 1
    return ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"] if many else []
