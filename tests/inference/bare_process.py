"""A script in a process that finds some packages missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

WITHOUT = """
import runpy, sys

packages = sys.argv[1].split(",")

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in packages:
            raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.meta_path.insert(0, Refused())
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_without(
    packages: Sequence[str], *words: object, flags: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """The end of `python SCRIPT WORD...`, in which these packages cannot be imported."""
    command = [sys.executable, *flags, "-c", WITHOUT, ",".join(packages), *map(str, words)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd="/")
