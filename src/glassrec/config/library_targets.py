"""Classes of Lightning and torchmetrics in a configuration: the parameters that are checked."""

from __future__ import annotations

import ast
from dataclasses import replace

from glassrec.config.targets import Definition, Parameter, locate, signature

_PASSED_ON = {"glassrec.training.trainer.Trainer": "lightning.pytorch.Trainer"}
"""Classes that take the arguments of others, too."""

_CHECKED = {
    "int", "float", "str", "bool", "list", "dict", "tuple", "Optional", "Union", "Literal",
    "Tensor", "Optimizer",
}  # fmt: skip
"""Names in the annotations of libraries by which values are checked."""


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
