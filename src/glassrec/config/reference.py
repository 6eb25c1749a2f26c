"""`glassrec help explain.baseline`: one setting or config group, from its YAML file and its class.

Neither Hydra nor a class is imported, so that help and completion take no time.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from glassrec import aliases
from glassrec.config import groups, targets
from glassrec.spelling import did_you_mean, either

ROOT = "glassrec.pipeline.Pipeline"


@dataclass(frozen=True)
class OptionSetting:
    """A setting as an option of its config group gives it."""

    group: str
    option: str
    name: str
    value: Any
    comment: str
    target: str
    """the class that takes it"""


def explain_setting(key: str, extra: Path | None = None) -> str:
    """What a setting or config group is, as text; LookupError if there is none of this name.

    `extra` is a folder of the user's own options, which come before those of `configs/`.
    """
    key = aliases.current_key(key.partition("=")[0].lstrip("+~"))
    dotted = key.replace("/", ".")
    parts = []
    known, options = settings(extra), _groups(extra)
    if (group := dotted.replace(".", "/")) in options:
        parts.append(_describe_group(group, extra))
    if found := known.get(dotted) or _unlisted(dotted, known):
        siblings = len(options.get(found[0].group, ()))
        parts.append(_describe_setting(dotted, found, siblings))
    if not parts:
        names = [*known, *(each.replace("/", ".") for each in options)]
        last = dotted.rpartition(".")[2]
        ends = [name for name in names if name.rpartition(".")[2] == last]
        near = f"; did you mean {either(ends[:4])}?" if ends else did_you_mean(dotted, names)
        raise LookupError(f"{key}: there is no such setting, config group or command{near}")
    return "\n".join(parts)


@cache
def settings(extra: Path | None = None) -> dict[str, list[OptionSetting]]:
    """Every setting of `configs/` and `extra` by its dotted key, with the options that have it.

    The option that is chosen by default comes first.
    """
    found: dict[str, list[OptionSetting]] = {}
    root = groups.configs_folder() / "run.yaml"
    for name, (value, comment) in _entries(root).items():
        views = _nested(name, OptionSetting("", "", name, value, comment, ROOT))
        found |= {key: [view] for key, view in views}
    for group, options in _groups(extra).items():
        default = _default(group)
        for option in sorted(options, key=lambda name: name != default):
            for key, view in _of_option(group, option, extra).items():
                found.setdefault(f"{group.replace('/', '.')}.{key}", []).append(view)
    known = _groups(extra)  # a data set may choose the settings of its split
    return {
        key: views
        for key, views in found.items()
        if not key.endswith("_") and key.replace(".", "/") not in known
    }


def _unlisted(key: str, known: dict[str, list[OptionSetting]]) -> list[OptionSetting]:
    """A parameter of a class that no YAML file lists: its default is that of the class."""
    parent, _, name = key.rpartition(".")
    beside = [found for each, found in known.items() if each.rpartition(".")[0] == parent]
    for view in beside[0] if beside else ():
        parameter, _ = _parameter(replace(view, name=name))
        if parameter is not None and not name.startswith("_"):
            default = ast.unparse(parameter.default) if parameter.default else "None"
            default = re.sub(r"^field\(default_factory=([\w.]+)\)$", r"\1()", default)
            value = None if default == "None" else default
            return [replace(view, name=name, value=value, comment="")]
    return []


def known_values(key: str) -> list[str]:
    """The options of a config group, or the values that a setting is known to take."""
    if key in _groups():
        return list(_groups()[key])
    found: list[str] = []
    for view in settings().get(key, ()):
        parameter, _ = _parameter(view)
        annotation = parameter.annotation if parameter else None
        for node in ast.walk(annotation) if annotation else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.Name) and node.id == "bool":
                found += ["true", "false"]
        found.append(_text(view.value))
    return list(dict.fromkeys(found))


def _nested(key: str, view: OptionSetting) -> Iterator[tuple[str, OptionSetting]]:
    if isinstance(view.value, dict) and (target := view.value.get("_target_")):
        for name, value in view.value.items():
            yield f"{key}.{name}", OptionSetting(key, "", name, value, "", target)
    else:
        yield key, view


def _of_option(group: str, option: str, extra: Path | None) -> dict[str, OptionSetting]:
    """The settings of one option, with those of the option that it starts from."""
    file = _file(group, option, extra)
    if not file.is_file() or "@package" in file.read_text(encoding="utf-8").partition("\n")[0]:
        return {}
    entries = _entries(file)
    found: dict[str, OptionSetting] = {}
    target = str(entries.pop("_target_", ("", ""))[0])
    for default in (entries.pop("defaults", ([], ""))[0]) or []:
        if (base := _base(group, default)) is not None:
            found |= _of_option(*base, extra)
    target = target or next((view.target for view in found.values()), "")
    for name, (value, comment) in entries.items():
        comment = comment or (found[name].comment if name in found else "")
        found[name] = OptionSetting(group, option, name, value, comment, target)
    return {
        key: replace(view, group=group, option=option, target=target) for key, view in found.items()
    }


def _base(group: str, default: Any) -> tuple[str, str] | None:
    """The option that an entry of a defaults list merges into the option itself."""
    if isinstance(default, str):
        return None if default == "_self_" else (group, default)
    ((key, option),) = default.items()
    home, _, place = key.partition("@")
    return (home.lstrip("/"), option) if place == "_here_" else None


def _entries(file: Path) -> dict[str, tuple[Any, str]]:
    """The values of a YAML file and the comments beside them, which may go on below."""
    text = file.read_text(encoding="utf-8")
    comments: dict[str, str] = {}
    key = None
    for line in text.splitlines():
        if entry := re.match(r"([\w-]+):(.*)", line):
            key = entry[1]
            comment = re.search(r"(?:^|\s)# ?(.*)", entry[2])
            comments[key] = comment[1] if comment else ""
        elif key and comments[key] and (more := re.match(r"\s+# ?(.*)", line)):
            comments[key] += f" {more[1].strip()}"
        else:
            key = None
    values = yaml.safe_load(text) or {}
    return {str(name): (value, comments.get(name, "")) for name, value in values.items()}


@cache
def _groups(extra: Path | None = None) -> dict[str, list[str]]:
    return groups.options(*filter(None, (extra, groups.configs_folder())))


def _file(group: str, option: str, extra: Path | None) -> Path:
    name = Path(group, f"{option}.yaml")
    return extra / name if extra and (extra / name).is_file() else groups.configs_folder() / name


def _default(group: str) -> str | None:
    parent, _, name = group.rpartition("/")
    owner = _default(parent) if parent else "run"
    file = groups.configs_folder() / parent / f"{owner}.yaml"
    if not file.is_file():
        return None
    for default in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("defaults", ()):
        if isinstance(default, dict) and name in default:
            return default[name]
    return None


# --- as text ---------------------------------------------------------------------------------


def _describe_group(group: str, extra: Path | None) -> str:
    default = _default(group)
    lines = [f"{group}=OPTION   a config group; its options"]
    options = _groups(extra)[group]
    width = max(map(len, options))
    for option in options:
        about = _about(_file(group, option, extra))
        mark = " (default)" if option == default else ""
        lines.append(f"  {option:<{width}}  {about}{mark}".rstrip())
    return "\n".join([*lines, *_effect(group.replace("/", "."))]) + "\n"


def _about(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    comments = (line[1:].strip() for line in lines if line.startswith("#"))
    return next((line for line in comments if not line.startswith("@package")), "")


def _describe_setting(key: str, views: list[OptionSetting], siblings: int) -> str:
    first = views[0]
    parameter, about = _parameter(first)
    lines = [f"{key}={_text(first.value)}"]
    if parameter is not None and parameter.annotation is not None:
        lines.append(f"  type      {ast.unparse(parameter.annotation)}")
    default = "a value is needed" if first.value == "???" else _text(first.value)
    lines.append(f"  default   {default}{f' in {first.group}={first.option}' * bool(first.option)}")
    for name, text in (("comment", first.comment), ("about", about)):
        lines += _wrapped(name, text) if text else []
    options = [f"{first.group}={view.option}" for view in views if view.option]
    if options and len(options) < siblings:
        lines += _wrapped("exists in", ", ".join(options))
    if differing := [view for view in views[1:] if view.value != first.value]:
        text = ", ".join(f"{_text(view.value)} in {view.option}" for view in differing)
        lines += _wrapped("others", text)
    return "\n".join([*lines, *_effect(key)]) + "\n"


def _wrapped(name: str, text: str) -> list[str]:
    first, others = f"  {name:<10}", " " * 12
    return textwrap.wrap(
        text, 96, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
    )


def _text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _parameter(view: OptionSetting) -> tuple[targets.Parameter | None, str]:
    try:
        definition = targets.locate(view.target)
    except LookupError:
        return None, ""
    parameters = targets.passed_on(definition) | targets.signature(definition).parameters
    parameter = parameters.get(view.name)
    text = ast.get_docstring(definition.tree) or ""
    line = re.search(rf"^ *{re.escape(view.name)}: (.*(?:\n {{8,}}.*)*)", text, re.MULTILINE)
    return parameter, " ".join(line[1].split()) if line else ""


def _effect(key: str) -> list[str]:
    """Where a setting has an effect: stages, files and levels of pruning."""
    from glassrec.artifacts.file_list import FILES
    from glassrec.artifacts.pruning import levels_of
    from glassrec.run import EXPERIMENT, RUNTIME_KEYS

    root = key.split(".")[0]
    lines = []
    if root in EXPERIMENT and key not in [f"trainer.{name}" for name in RUNTIME_KEYS]:
        lines.append("  effect    on training and every later stage; a change needs a new run.dir")
    else:
        stages: dict[str, list[str]] = {}
        for file in FILES:
            names = [f"{each}." for each in file.settings]
            if any(each.startswith(f"{key}.") or f"{key}.".startswith(each) for each in names):
                stages.setdefault(file.stage, []).append(file.name)
        for stage, files in stages.items():
            lines += _wrapped("effect", f"{stage}: {', '.join(files)}")
    if levels := levels_of(key):
        lines.append(f"            with {either(f'prune.level={level}' for level in levels)}")
    return lines
