"""Settings and metrics as the page shows them: a name, a colour, and how numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from glassrec.compare.comparison import Setting, Task
from glassrec.compare.differences import said, usual
from glassrec.compare.directory import PROVEN, Found
from glassrec.report.formatting import COSTS, fixed, percent, shorten
from glassrec.report.style import QUALITATIVE, REST

MANY = 3
"""Of more settings that vary, a name tells only what is its own."""


@dataclass(frozen=True)
class Shown:
    """A setting as the page shows it."""

    key: str
    label: str
    colour: str
    setting: Setting
    words: str
    """what the page's filter finds it by: `model=mlp model.factors=8`"""

    @property
    def runs(self) -> list[Found]:
        """Its runs, a seed each."""
        return self.setting.runs

    @property
    def of(self) -> str:
        """The gid of what is drawn of it."""
        return f"of:{self.key}"


def coloured(task: Task, varies: Iterable[str], first: int) -> list[Shown]:
    """The settings of a task, best first: the first few in colours of their own, the others grey.

    Args:
        task: the task.
        varies: the settings that the page's filter knows, which vary among all of its tasks.
        first: the number of the first among all of the page.
    """
    colours = [*QUALITATIVE, *[REST] * len(task.settings)]
    return [
        Shown(f"{first + place}", label, colours[place], each, _words(each, varies))
        for place, (each, label) in enumerate(zip(task.settings, labels(task), strict=True))
    ]


def _words(setting: Setting, varies: Iterable[str]) -> str:
    settings = setting.runs[0].settings
    pairs = ((name, said(settings[name])) for name in varies if name in settings)
    return " ".join(f"{name}={''.join(value.split())}" for name, value in pairs)


def labels(task: Task) -> list[str]:
    """`mlp · factors 16` for each setting: the values that vary, those of no slot with their names.

    Where many vary, what most settings have is left out, as long as no two are called the same.
    """
    common = {name: usual([each.value(name) for each in task.settings]) for name in task.labels}
    left_out = common if len(common) > MANY else {}
    brief, full = ([_label(task, each, of) for each in task.settings] for of in (left_out, {}))
    return brief if all(brief) and len({*brief}) == len(brief) else full


def _label(task: Task, setting: Setting, left_out: Mapping[str, str | None]) -> str:
    """Choices of a slot, such as a model, are always told."""
    parts = [
        shorten(value if _is_choice(name, value) else f"{task.labels[name]} {said(value)}", 32)
        for name, value in setting.differs.items()
        if _is_choice(name, value) or said(value) != left_out.get(name)
    ]
    return " · ".join(parts) or ("" if left_out else "the only setting")


def _is_choice(name: str, value: object) -> bool:
    """Whether it is what a slot holds, such as `mlp`, which tells enough."""
    return isinstance(value, str) and "." not in name


def told(name: str) -> str:
    """What a metric is called in a heading."""
    if name == PROVEN:
        return "provably removable"
    plain = name.removeprefix("pruned/").removeprefix("test/")
    label = COSTS[plain][0] if plain in COSTS else plain
    return f"{label}, pruned" if name.startswith("pruned/") else label


def hand(name: str) -> Callable[[float], str]:
    """How its numbers are written."""
    plain = name.removeprefix("pruned/")
    if name == PROVEN or plain.endswith("_share"):
        return percent
    return COSTS[plain][1] if plain in COSTS else fixed
