"""The command `glassrec compare`. Its help imports nothing that takes long."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = "comparison"

STORY = """\
Finished runs and sweeps side by side: a table in the terminal, CSV and parquet, and one HTML page.

Runs that differ in their seed alone are one row, with mean ± standard deviation. Only settings that
differ are shown. Runs of other data or other metrics have a table of their own; runs that failed or
crashed are listed with the reason.
"""

EXAMPLES = """\
Examples
  glassrec compare runs
  glassrec compare runs/sweeps/widths --by pruned/parameters
  glassrec compare runs/planted-dlrm-1a2b3c4d runs/planted-dnn-5e6f7a8b --out widths

By default, settings are ranked by the metric on validation that chose the epochs. To rank by a
metric of the test split is to choose on it: what is best there looks better than it is.

Written: index.html, to be opened in any browser; runs.csv and runs.parquet, a row a run;
settings.csv and settings.parquet, a row a setting.

Exit codes: 0 done; 1 nothing to compare, or a metric that no run has; 2 the command is wrong.
"""


def main(words: Sequence[str]) -> int:
    """Compare, and return the exit code.

    Raises:
        ValueError: a directory holds no run, or no run has the metric to rank by or to show.
    """
    asked = _parser().parse_args(words)
    from glassrec.compare import page, tables
    from glassrec.compare.comparison import compare
    from glassrec.compare.scan import scan
    from glassrec.compare.terminal import tell

    comparison = compare(scan(asked.directories), asked.by, asked.metric)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in tell(comparison, top=asked.top, width=width, by=asked.by):
        print(line)
    out = asked.out or _beside(asked.directories)
    tables.write(comparison, out)
    for name in asked.table:
        tables.write_joined(name, comparison.runs, out)
    page.write(comparison, out / "index.html")
    for problem in sorted({text for run in comparison.runs for text in run.unreadable}):
        print(f"glassrec: warning: left out, as it cannot be read: {problem}", file=sys.stderr)
    print(f"results   {out / 'index.html'}, and runs.csv and settings.csv beside it")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="glassrec compare", description=STORY, epilog=EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "directories", nargs="+", type=Path, metavar="DIR",
        help="a run, a sweep, or a folder with runs in it, at any depth",
    )  # fmt: skip
    parser.add_argument("--by", metavar="METRIC", help="rank by this metric, such as test/auroc")
    parser.add_argument(
        "--metric", action="append", default=[], metavar="METRIC",
        help="show this metric, too, beside those that tell most; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--table", action="append", default=[], metavar="NAME",
        help="join a table that the runs hold, such as importance, as NAME.csv; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--top", type=_positive, default=20, metavar="N",
        help="list so many settings in the terminal (%(default)s); the files have all",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help=f"where to write (default: {FOLDER}/ in DIR; here, if DIR is a run or one of many)",
    )  # fmt: skip
    return parser


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is not 1 or more")
    return number


def _beside(directories: Sequence[Path]) -> Path:
    """The folder to write to: never inside a run, whose files are its own."""
    from glassrec.compare.directory import read

    alone = len(directories) == 1 and read(directories[0]) is None
    return directories[0] / FOLDER if alone else Path(FOLDER)
