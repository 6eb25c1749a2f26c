"""The class of a `_target_`, found by reading source files: nothing is imported.

The place of the definition counts, not the path that leads to it: `glassrec.run.files.os.system` is
`os.system`, and refused.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from glassrec.config.user_modules import IMPORTED
from glassrec.spelling import did_you_mean

SEAMS = {
    "lightning.pytorch.callbacks.callback.Callback",
    "lightning.pytorch.loggers.logger.Logger",
    "torchmetrics.metric.Metric",
}
"""A class that inherits one of these, or any class of Glassrec, may be named wherever it is."""

RULE = (
    "a target is defined in glassrec or is an optimiser or scheduler of torch.optim, a metric of "
    "torchmetrics, or a callback, logger, profiler, strategy or plugin of Lightning; or it is your "
    "own class that inherits one of glassrec (such as Recommender), or Callback, Logger or Metric"
)

_LIBRARIES = (
    "torch.optim.", "torchmetrics.", "lightning.pytorch.callbacks.", "lightning.pytorch.loggers.",
    "lightning.pytorch.plugins.", "lightning.pytorch.profilers.", "lightning.pytorch.strategies.",
)  # fmt: skip
"""The parts of libraries whose classes may be named."""

_HOPS = 32  # re-exports that are followed before they count as a circle

_PASSED_ON = {"glassrec.training.trainer.Trainer": "lightning.pytorch.Trainer"}
"""Classes that take the arguments of others, too."""

_CHECKED = {
    "int", "float", "str", "bool", "list", "dict", "tuple", "Optional", "Union", "Literal",
    "Tensor", "Optimizer",
}  # fmt: skip
"""Names in the annotations of libraries by which values are checked."""


@dataclass(frozen=True, eq=False)
class Module:
    """A module by its dotted name: where its submodules lie, and what its top level binds."""

    name: str
    folders: tuple[Path, ...]
    bindings: dict[str, ast.stmt]


@dataclass(frozen=True)
class Definition:
    """A class or function, and the module in which it physically stands."""

    module: Module
    tree: ast.ClassDef | ast.FunctionDef

    @property
    def is_class(self) -> bool:
        """Whether it is a class; else a function."""
        return isinstance(self.tree, ast.ClassDef)

    @property
    def path(self) -> str:
        """The dotted name of the definition itself."""
        return f"{self.module.name}.{self.tree.name}"


@dataclass(frozen=True)
class Parameter:
    """What a target takes under one name."""

    annotation: ast.expr | None
    required: bool
    module: Module | None = None
    """where the annotation stands"""
    default: ast.expr | None = None
    constraints: ast.Call | None = None
    """`Field(gt=0)`, the default of a pydantic model's field"""


@dataclass(frozen=True)
class Signature:
    """What a target takes; `open` if it takes any other name as well."""

    parameters: dict[str, Parameter]
    open: bool = False


def resolve(target: str) -> Definition:
    """The class or function that a configuration names; LookupError if there is none it may."""
    try:
        definition = locate(target)
    except LookupError as error:
        clear = target.startswith("glassrec.") or "installed packages" in str(error)
        raise LookupError(str(error) if clear else f"{error}; {RULE}") from None
    # Others of `imported` call what they are given; `admit` looks for these two under their names.
    calls = definition.path.startswith("glassrec.imported.") and target not in IMPORTED
    if calls or not _allowed(definition):
        raise LookupError(f"{definition.path} is not allowed; {RULE}")
    return definition


def locate(path: str) -> Definition:
    """The class or function that a dotted path leads to; LookupError if it does not."""
    found = bound(path)
    if isinstance(found, Definition):
        return found
    raise LookupError(f"no class {path.rpartition('.')[2]!r} in {found[1].name}")


def bound(path: str) -> Definition | tuple[ast.expr, Module]:
    """The definition of a dotted path, or a value and its module; LookupError if it is neither."""
    target = path
    for _ in range(_HOPS):
        home, _, name = target.rpartition(".")
        if not home:
            raise LookupError(f"{path!r} is not a path such as glassrec.models.ncf.GMF")
        module = _module(home)
        match module.bindings.get(name):
            case ast.ClassDef() | ast.FunctionDef() as definition:
                return Definition(module, definition)
            case ast.ImportFrom() as statement:
                target = _imported(module, statement, name)
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return value, module
            case _:
                classes = (n for n, s in module.bindings.items() if not isinstance(s, ast.Import))
                raise LookupError(f"no class {name!r} in {home}{did_you_mean(name, classes)}")
    raise LookupError(f"{path} is imported in a circle")


def signature(definition: Definition) -> Signature:
    """What a target takes: its arguments, those of `__init__`, or the fields of a dataclass."""
    if isinstance(definition.tree, ast.FunctionDef):
        return _arguments(definition, definition.tree.args, skip=0)
    lineage = list(_lineage(definition))
    model = inherits(definition, "pydantic")
    for each in lineage:
        for statement in each.tree.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                return _arguments(each, statement.args, skip=1)
        if model or is_dataclass(each):
            return Signature(_fields(lineage, model))
    return Signature({})


def passed_on(definition: Definition) -> dict[str, Parameter]:
    """The parameters that a class takes and hands on to another."""
    other = _PASSED_ON.get(definition.path)
    return checkable(locate(other)) if other else {}


def checkable(definition: Definition) -> dict[str, Parameter]:
    """The parameters of a target, without the annotations of libraries that say more than types."""
    parameters = signature(definition).parameters
    if not definition.path.startswith(("lightning.", "torchmetrics.")):
        return parameters
    return {
        name: parameter if _is_plain(parameter.annotation) else replace(parameter, annotation=None)
        for name, parameter in parameters.items()
    }


def _is_plain(annotation: ast.expr | None) -> bool:
    tree = annotation or ast.Constant(None)
    return all(each.id in _CHECKED for each in ast.walk(tree) if isinstance(each, ast.Name))


def _allowed(definition: Definition) -> bool:
    home = f"{definition.module.name}."
    if home.startswith("glassrec."):
        return True
    if not isinstance(definition.tree, ast.ClassDef):
        return False
    return home.startswith(_LIBRARIES) or any(
        each.path in SEAMS or each.path.startswith("glassrec.") for each in _lineage(definition)
    )


def _module(name: str) -> Module:
    top, *rest = name.split(".")
    spec = None
    with suppress(ValueError):  # the name is empty, or that of a program such as __main__
        spec = find_spec(top)
    if spec is None:
        where = f"in {Path.cwd()} or among the installed packages"
        raise LookupError(f"no module {top!r} {where}; go to the folder of {top}.py, or install it")
    file = Path(spec.origin) if spec.origin else None
    folders = tuple(Path(folder) for folder in spec.submodule_search_locations or ())
    for depth, part in enumerate(rest, start=1):
        found = next(_submodules(folders, part), None)
        if found is None:
            near = did_you_mean(part, _public(folders))
            raise LookupError(f"no module {part!r} in {'.'.join([top, *rest][:depth])}{near}")
        file, folders = found
    return Module(name, folders, _parse(file) if file and file.suffix == ".py" else {})


def _submodules(
    folders: tuple[Path, ...], name: str
) -> Iterator[tuple[Path | None, tuple[Path, ...]]]:
    for folder in folders:
        package, file = folder / name, folder / f"{name}.py"
        if package.is_dir():
            init = package / "__init__.py"
            yield (init if init.is_file() else None), (package,)
        if file.is_file():
            yield file, ()


def _public(folders: tuple[Path, ...]) -> list[str]:
    inside = [path for folder in folders for path in folder.iterdir() if path.name[0] != "_"]
    return [path.stem for path in inside if path.suffix == ".py" or path.is_dir()]


@cache
def _parse(file: Path) -> dict[str, ast.stmt]:
    return dict(_bindings(ast.parse(file.read_bytes(), str(file)).body))


def _bindings(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """What a module's top level binds, branches of `if` and `try` included, in order."""
    for statement in body:
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name, statement
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for alias in names:
                    yield alias.asname or alias.name.split(".")[0], statement
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, statement
            case ast.Assign(targets=targets):
                yield from ((t.id, statement) for t in targets if isinstance(t, ast.Name))
            case ast.If() | ast.Try() | ast.With():
                for part in ("body", "handlers", "orelse", "finalbody"):
                    yield from _bindings(getattr(statement, part, []))
            case ast.ExceptHandler(body=branch):
                yield from _bindings(branch)


def _imported(module: Module, statement: ast.ImportFrom, name: str) -> str:
    """The absolute path of what `from x import y as name` binds."""
    original = next(a.name for a in statement.names if (a.asname or a.name) == name)
    home = [statement.module] if statement.module else []
    if statement.level:
        # Only a package has folders: in a plain module, one dot is the package around it.
        up = statement.level - bool(module.folders)
        parts = module.name.split(".")
        home = parts[: len(parts) - up] + home
    return ".".join([*home, original])


def _lineage(definition: Definition) -> Iterator[Definition]:
    """A class and those that it inherits from, nearest first; a seam's own bases do not matter."""
    yield definition
    assert isinstance(definition.tree, ast.ClassDef)
    for base in definition.tree.bases if definition.path not in SEAMS else ():
        expression = base.value if isinstance(base, ast.Subscript) else base
        try:
            found = locate(absolute(definition.module, ast.unparse(expression)))
        except LookupError:  # a builtin, or compiled: its source says nothing of parameters
            continue
        if isinstance(found.tree, ast.ClassDef) and found.path != definition.path:
            yield from _lineage(found)


def absolute(module: Module, name: str) -> str:
    """The absolute path of a dotted name that is used in `module`."""
    head, _, rest = name.partition(".")
    match module.bindings.get(head):
        case ast.ImportFrom() as statement:
            home = _imported(module, statement, head)
        case ast.Import(names=names):
            home = next((alias.name for alias in names if alias.asname == head), head)
        case _:
            home = f"{module.name}.{head}"
    return f"{home}.{rest}" if rest else home


def inherits(definition: Definition, package: str) -> bool:
    """Whether a class inherits one of a package, such as `enum`."""
    return any(
        absolute(each.module, ast.unparse(base)).startswith(f"{package}.")
        for each in _lineage(definition)
        for base in getattr(each.tree, "bases", ())
    )


def is_dataclass(definition: Definition) -> bool:
    """Whether a class is decorated as a dataclass."""
    return "dataclass" in map(_last_name, definition.tree.decorator_list)


def _fields(lineage: list[Definition], model: bool) -> dict[str, Parameter]:
    """The fields of a dataclass or pydantic model in the order of `__init__`: oldest base first."""
    return {
        statement.target.id: _field(each.module, statement)
        for each in reversed(lineage)
        if is_dataclass(each) or (model and not each.path.startswith("pydantic."))
        for statement in each.tree.body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and _is_parameter(statement)
    }


def _field(module: Module, statement: ast.AnnAssign) -> Parameter:
    value, constraints = statement.value, None
    required = value is None
    if isinstance(value, ast.Call) and (name := _last_name(value)) in ("field", "Field"):
        rest = [k for k in value.keywords if k.arg not in ("default", "default_factory")]
        given = value.args and ast.unparse(value.args[0]) != "..."
        required = not given and len(rest) == len(value.keywords)
        constraints = ast.Call(value.func, [], rest) if name == "Field" else None
    return Parameter(statement.annotation, required, module, value, constraints)


def _last_name(node: ast.expr) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node).split(".")[-1]


def _is_parameter(field: ast.AnnAssign) -> bool:
    annotation = ast.unparse(field.annotation)
    if "ClassVar" in annotation or "KW_ONLY" in annotation:
        return False
    keywords = field.value.keywords if isinstance(field.value, ast.Call) else []
    return not any(k.arg == "init" and ast.unparse(k.value) == "False" for k in keywords)


def _arguments(definition: Definition, arguments: ast.arguments, skip: int) -> Signature:
    module = definition.module
    ordinary = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(ordinary) - len(arguments.defaults)), *arguments.defaults]
    pairs = [*zip(ordinary, defaults, strict=True)][skip:]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    parameters = {
        argument.arg: Parameter(argument.annotation, default is None, module, default)
        for argument, default in pairs
    }
    return Signature(parameters, open=arguments.kwarg is not None)
