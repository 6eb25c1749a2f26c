"""Make the pictures of README and docs: figures of the demo, for screens of any theme.

python docs/pictures.py [RUN]    the run to show; without it the demo is run first
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURES = ("feature_importance", "neuron_importance", "before_and_after", "pruning_curves")


def main(arguments: list[str]) -> int:
    """Copy the figures of the run, which is made if it does not exist."""
    run = Path(arguments[0]) if arguments else ROOT / "runs" / "demo"
    glassrec = Path(sys.executable).parent / "glassrec"
    subprocess.run([glassrec, "run", f"run.dir={run}"], check=True)
    target = ROOT / "docs" / "pictures"
    target.mkdir(exist_ok=True)
    for name in FIGURES:
        shutil.copy(run / "figures" / f"{name}.png", target)
    print(f"pictures  {', '.join(FIGURES)} in {target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
