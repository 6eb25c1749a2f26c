"""Run every `glassrec` command of the README as it is written, on data made for them.

Only `wandb-report` is left out: it needs W&B's server.

python tests/run_readme.py [FOLDER]    a new folder if none is named; it holds runs/ afterwards
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

USERS, ITEMS, RATINGS, NEGATIVES = 120, 200, 30, 99


def main(words: list[str]) -> int:
    """Run them one after the other; 1 if one fails."""
    folder = Path(words[0] if words else tempfile.mkdtemp(prefix="glassrec-readme-"))
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder)
    failed = [command for command in commands() if not succeeds(command, folder)]
    for command in failed:
        print(f"failed    {command}")
    print(f"results   {folder}")
    return 1 if failed else 0


def commands() -> Iterator[str]:
    """The lines of all `sh` blocks that call `glassrec`, in their order; the demo's come first."""
    demo = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert demo is not None
    yield from re.findall(r"(glassrec .*)", demo[1])
    for block in re.findall(r"```sh\n(.*?)```", README, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.split("  #")[0].strip()
            if command.startswith("glassrec ") and not re.search(r"STAGE|wandb-report", command):
                yield command


def succeeds(command: str, folder: Path) -> bool:
    """Whether a command ends well; what it says is shown where it does not."""
    began = perf_counter()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**os.environ, "PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(f"{done.returncode:>3} {perf_counter() - began:6.1f} s  {command}", flush=True)
    if done.returncode:
        print(done.stdout[-2000:] + done.stderr[-4000:], flush=True)
    return done.returncode == 0


def write_files(folder: Path) -> None:
    """The files that the README shows under their names, and data in the layouts it speaks of."""
    for name, text in re.findall(
        r"```(?:python|yaml)\n# (\S+\.(?:py|yaml))\n(.*?)```", README, re.S
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    random = np.random.default_rng(0)
    chosen = [random.choice(ITEMS, RATINGS, replace=False) for _ in range(USERS)]
    write_movielens(folder / "ml-100k", chosen, random)
    write_ncf(folder / "ncf", chosen, random)
    write_clicks(folder / "clicks.csv", random)


def write_movielens(root: Path, chosen: list[np.ndarray], random: np.random.Generator) -> None:
    """`u.data`, `u.user` and `u.item`, each user with the items chosen for them."""
    genres = random.integers(0, 2, (ITEMS, 19))
    rated = [
        (user + 1, item + 1, random.integers(1, 6), 1000 * user + place)
        for user, items in enumerate(chosen)
        for place, item in enumerate(items)
    ]
    write(root / "u.data", rated, "\t")
    sexes, jobs = random.choice(["F", "M"], USERS), random.choice(["artist", "doctor"], USERS)
    write(
        root / "u.user",
        [(u + 1, random.integers(15, 70), sexes[u], jobs[u], 10000 + u) for u in range(USERS)],
        "|",
    )
    write(
        root / "u.item",
        [(i + 1, f"Film {i} (19{60 + i % 40})", "01-Jan-1995", "", "", *genres[i])
         for i in range(ITEMS)],
        "|",
    )  # fmt: skip


def write_ncf(root: Path, chosen: list[np.ndarray], random: np.random.Generator) -> None:
    """The three files; the first item of each user is the test item, the others newest first."""
    train = [(u, i, 5, 100 - k) for u, items in enumerate(chosen) for k, i in enumerate(items[1:])]
    write(root / "ml-1m.train.rating", train, "\t")
    write(root / "ml-1m.test.rating", [(u, i[0], 5, 200) for u, i in enumerate(chosen)], "\t")
    lists = [
        (f"({u},{i[0]})", *random.choice(np.setdiff1d(np.arange(ITEMS), i), NEGATIVES, False))
        for u, i in enumerate(chosen)
    ]
    write(root / "ml-1m.test.negative", lists, "\t")


def write(path: Path, rows: Iterable[Iterable[object]], separator: str) -> None:
    """A row a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))


def write_clicks(path: Path, random: np.random.Generator, rows: int = 3000) -> None:
    """A table with the columns that the README's `columns.yaml` names."""
    sku = random.integers(0, 80, rows)
    age = random.integers(15, 90, rows).astype(float)
    frame = pd.DataFrame({
        "clicked": random.integers(0, 2, rows),
        "stars": random.integers(1, 6, rows),
        "user_id": random.integers(0, 150, rows),
        "sku": sku,
        "city": random.choice(["Bern", "Lyon", "Oslo"], rows),
        "device": random.choice(["phone", "desktop"], rows),
        "brand": [f"brand {s % 7}" for s in sku],
        "tags": random.choice(["news|sports", "news", "music|film"], rows),
        "price": random.lognormal(2, 1, 80).round(2)[sku],
        "age": np.where(random.random(rows) < 0.05, np.nan, age),
        "views": random.integers(0, 1000, rows),
        "clicked_at": 1_700_000_000 + np.arange(rows),
    })  # fmt: skip
    frame.to_csv(path, index=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
