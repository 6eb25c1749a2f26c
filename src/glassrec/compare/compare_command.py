"""The command `glassrec compare`. Its help imports nothing that takes long."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

FOLDER = "comparison"

DESCRIPTION = """\
Finished runs and sweeps side by side: a table in the terminal, CSV and parquet, and one HTML page.

Runs that differ only in their seed are one row, with mean ± standard deviation. Only settings that
differ are shown. Runs of other data or other metrics have a table of their own; runs that failed or
crashed are listed with the reason.
"""

EXAMPLES = """\
Examples
  glassrec compare runs
  glassrec compare runs/sweeps/widths --by pruned/parameters
  glassrec compare runs/planted-dlrm-1a2b3c4d runs/planted-dnn-5e6f7a8b --out widths
  glassrec compare runs/sweeps/widths --wandb glassrec

By default, settings are ranked by the metric on validation that selected the epochs. Ranking by a
metric of the test split is selection on that split: the best value there is optimistic.

Written: index.html, to be opened in any browser; runs.csv and runs.parquet, a row per run;
settings.csv and settings.parquet, a row per setting; differences.csv and differences.parquet, a row
per pair of settings, with the t-test paired by seed.

Exit codes: 0 done; 1 nothing to compare, or a metric that no run has; 2 invalid usage.
"""


def main(arguments: Sequence[str]) -> int:
    """Compare, and return the exit code.

    Raises:
        ValueError: a directory holds no run, or no run has the metric to rank by or to show.
    """
    options = _parser().parse_args(arguments)
    from glassrec.compare import comparison_page, exports
    from glassrec.compare.run_comparison import compare
    from glassrec.compare.scan import scan
    from glassrec.compare.terminal import summary_lines

    comparison = compare(scan(options.directories), options.by, options.metric)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in summary_lines(comparison, top=options.top, width=width, by=options.by):
        print(line)
    out = options.out or _default_folder(options.directories)
    exports.write_tables(comparison, out)
    for name in options.table:
        exports.write_joined(name, comparison.runs, out)
    comparison_page.write_page(comparison, out / "index.html")
    if options.wandb:
        _track(out, options.wandb, options.directories)
    for problem in sorted({text for run in comparison.runs for text in run.unreadable}):
        print(f"glassrec: warning: left out, as it cannot be read: {problem}", file=sys.stderr)
    print(
        f"results   {out / 'index.html'}, and runs.csv, settings.csv and differences.csv beside it"
    )
    return 0


def _track(out: Path, project: str, directories: Sequence[Path]) -> None:
    """Record the page and the settings as a W&B run, beside those of a sweep, if it is of one."""
    import pandas as pd

    from glassrec.run import sha256
    from glassrec.tracking import TablePreview, WandB

    name = directories[0].resolve().name
    one = len(directories) == 1
    tracker = WandB(project, group=name if one else None, name=f"comparison of {name}")
    with tracker.open(out, {}, "compare") as log:
        log.page("comparison", out / "index.html", sha256(out / "index.html"))
        ends = ("_std", "_n", "_low", "_high")
        for name in ("settings", "differences"):
            table, every = out / f"{name}.csv", pd.read_csv(out / f"{name}.csv")
            if every.empty:
                continue
            shown = [each for each in every if not str(each).endswith(ends)]
            preview = TablePreview(every[shown], len(every), table.name)
            log.table(name, sha256(table), partial(TablePreview._make, preview))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="glassrec compare", description=DESCRIPTION, epilog=EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "directories", nargs="+", type=Path, metavar="DIR",
        help="a run, a sweep, or a folder with runs in it, at any depth",
    )  # fmt: skip
    parser.add_argument("--by", metavar="METRIC", help="rank by this metric, such as test/auroc")
    parser.add_argument(
        "--metric", action="append", default=[], metavar="METRIC",
        help="also show this metric, beside the primary metrics; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--table", action="append", default=[], metavar="NAME",
        help="join a table that the runs hold, such as importance, as NAME.csv; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--wandb", metavar="PROJECT",
        help="also record the page and the settings in this W&B project; offline without a key",
    )  # fmt: skip
    parser.add_argument(
        "--top", type=_positive, default=20, metavar="N",
        help="number of settings listed in the terminal (%(default)s); the files have all",
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


def _default_folder(directories: Sequence[Path]) -> Path:
    """The folder to write to: never inside a run, whose files are its own."""
    from glassrec.report.run_record import RunRecord

    alone = len(directories) == 1 and RunRecord.open(directories[0]) is None
    return directories[0] / FOLDER if alone else Path(FOLDER)
