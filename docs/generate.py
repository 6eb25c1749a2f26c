"""Write the command, configuration and file references from the code, while MkDocs builds."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages to those of the folder."""
    pages = {
        "reference/commands.md": commands(),
        "reference/configuration.md": configuration(),
        "reference/artifacts.md": artifacts(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def commands() -> str:
    """The help of the command line, and of each of its commands."""
    from glassrec.config.manual import COMMANDS

    parts = ["# Commands\n", _block(_help("help"))]
    for name in COMMANDS:
        words = (
            ("help", name) if name not in ("compare", "search", "wandb-report") else (name, "-h")
        )
        parts += [f"## {name}\n", _block(_help(*words))]
        if name in ("explain", "verify"):
            parts += [f"## {name} rows=FILE\n", _block(_help(name, "rows=", "-h"))]
    return "\n".join(parts)


def _help(*words: str) -> str:
    from glassrec.__main__ import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(list(words))
    return out.getvalue()


def configuration() -> str:
    """Every config group with its options, as their files describe them."""
    folder = ROOT / "configs"
    parts = [
        "# Configuration\n",
        "A folder is a config group and a file in it an option: `model=gmf` takes "
        "`configs/model/gmf.yaml`. Every key of a file can be set on the command line under the "
        "name of its group: `model.factors=16`. The comments explain the keys.\n",
        "## Root\n",
        _block((folder / "run.yaml").read_text(encoding="utf-8"), "yaml"),
    ]
    for group in sorted({path.parent for path in folder.rglob("*.yaml")} - {folder}):
        name = group.relative_to(folder).as_posix()
        parts.append(f"## {name}\n")
        for path in sorted(group.glob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            parts += [f"### {name}={path.stem}\n", _block(text, "yaml")]
    return "\n".join(parts)


def artifacts() -> str:
    """The files of a run, from the one table of them."""
    from glassrec.artifacts.file_list import FILES

    rows = [
        f"| `{each.name}` | {each.stage} | {each.about} | "
        f"{', '.join(f'`{made.name}`' for made in each.inputs) or '–'} |"
        for each in FILES
    ]
    return "\n".join(
        [
            "# Files of a run\n",
            "A run is a directory. Each file is made once, written beside its place and renamed, "
            "and recorded in `record.json` with its hash and a key of what it was made from. "
            "Change a setting, and only the files that depend on it are made again.\n",
            "| file | stage | content | made from |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _block(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```\n"
