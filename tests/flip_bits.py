"""Flip single bits anywhere in the files of a run, and have `glassrec verify` find each of them.

python tests/flip_bits.py [COUNT] [SEED]    200 flips of seed 0 by default; 1 if one is missed
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from glassrec.__main__ import main
from small_run import QUICK, SMALL


def flips(
    run: Path, count: int, seed: int = 0, words: Sequence[str] = ()
) -> Iterator[tuple[str, int, str]]:
    """Flip so many bits, one at a time: each file has the same chance, and so has each of its bits.

    Yields:
        The file, the bit and what `glassrec verify` says: nothing if it misses the flip.
    """
    draw = random.Random(seed)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    for _ in range(count):
        path = draw.choice(files)
        content = path.read_bytes()
        bit = draw.randrange(8 * len(content))
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            yield path.relative_to(run).as_posix(), bit, verified(run, words)
        finally:
            path.write_bytes(content)


def verified(run: Path, words: Sequence[str] = ()) -> str:
    """What `glassrec verify` complains of; nothing if it passes."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["verify", f"run.dir={run}", *words])
    assert bool(code) == bool(err.getvalue()), "each failure has its reason"
    return err.getvalue()


def study(count: int, seed: int) -> int:
    """Make a small run, flip bits of it, and print how many were found; 1 if one was missed."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["run", f"run.dir={run}", *SMALL, *QUICK, "prune/curves=none"]) == 0
        assert not verified(run)
        found = list(flips(run, count, seed))
    missed = [f"missed    bit {bit} of {name}" for name, bit, said in found if not said]
    files = len({name for name, _, _ in found})
    print(*missed, f"{count - len(missed)} of {count} bit flips in {files} files were detected",
          sep="\n")  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    count, seed = [*map(int, sys.argv[1:]), *(200, 0)[len(sys.argv) - 1 :]]
    sys.exit(study(count, seed))
