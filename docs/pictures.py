"""Make the picture of README and docs: the importance of the inputs in the demo.

python docs/pictures.py [RUN]    the run to show; without it the demo is run first
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURE = "feature_importance.png"


def main(arguments: list[str]) -> int:
    """Copy the figure of the run, which is made if it does not exist."""
    run = Path(arguments[0]) if arguments else ROOT / "runs" / "demo"
    glassrec = Path(sys.executable).parent / "glassrec"
    subprocess.run([glassrec, "run", f"run.dir={run}"], check=True)
    target = ROOT / "docs" / "pictures" / FIGURE
    target.parent.mkdir(exist_ok=True)
    shutil.copy(run / "figures" / FIGURE, target)
    print(f"picture   {target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
