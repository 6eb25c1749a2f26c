import inspect
from pathlib import Path

import pytest
import torch.optim
from hydra.utils import get_object

from glassrec.config import groups, targets

CONFIGURED = sorted(
    {
        line.split()[1]
        for file in groups.configs_folder().rglob("*.yaml")
        if file.parent.name != "executor"  # they take any setting
        for line in file.read_text().splitlines()
        if line.strip().startswith("_target_:")
    }
)
OPTIMISERS = [f"torch.optim.{name}" for name, kind in vars(torch.optim).items()
              if inspect.isclass(kind)]  # fmt: skip


@pytest.mark.parametrize("target", CONFIGURED + OPTIMISERS + ["glassrec.pipeline.Pipeline"])
def test_the_signature_that_is_read_is_that_of_the_imported_object(target):
    expected = {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(get_object(target)).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    found = targets.signature(targets.resolve(target)).parameters
    assert {name: parameter.required for name, parameter in found.items()} == expected


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A user's package that is on the path and breaks whoever imports it."""
    monkeypatch.syspath_prepend(tmp_path)
    root = tmp_path / "own_package"
    root.mkdir()

    def write(**files: str) -> None:
        for name, text in files.items():
            (root / f"{name}.py").write_text(f"{text}\nraise SystemExit('imported')\n")

    write(__init__="")
    return write


ALLOWED = {
    "imported name": "from glassrec.models.base import Recommender\nclass Own(Recommender): ...",
    "imported module": "from glassrec.models import base\nclass Own(base.Recommender): ...",
    "alias": "import glassrec.models.base as b\nclass Own(b.Recommender): ...",
    "dotted": "import glassrec.data.dataset\nclass Own(glassrec.data.dataset.Source): ...",
    "grandchild": "from glassrec.models.ncf import GMF\nclass Mid(GMF): ...\nclass Own(Mid): ...",
    "tracker": "from glassrec.tracking import Tracker as T\nclass Own(object, T): ...",
    "branch": "try:\n  from glassrec.models.ncf import GMF\nexcept ImportError:\n  raise\n"
    "class Own(GMF): ...",
}


@pytest.mark.parametrize("source", ALLOWED.values(), ids=ALLOWED)
def test_an_own_class_that_inherits_a_seam_is_allowed(package, source):
    package(models=source)
    assert targets.resolve("own_package.models.Own").path == "own_package.models.Own"


def test_a_re_export_is_followed_to_where_the_class_stands(package):
    package(models=ALLOWED["alias"], middle="from .models import Own as Renamed")
    package(__init__="from .middle import Renamed")
    assert targets.resolve("own_package.Renamed").path == "own_package.models.Own"


REFUSED = {
    "os.system": "no class 'system' in os",
    "subprocess.Popen": "subprocess.Popen is not allowed",
    "subprocess.run": "subprocess.run is not allowed",
    "builtins.eval": "no class 'eval' in builtins",
    "torch.load": "torch.serialization.load is not allowed",
    "torch.hub.load": "torch.hub.load is not allowed",
    "torch.nn.Linear": "no class 'Linear' in torch.nn",
    "torch.nn.modules.linear.Linear": "torch.nn.modules.linear.Linear is not allowed",
    "glassrec.run.files.os.system": "no module 'os' in glassrec.run.files",
    "glassrec.config.compose.hydra.compose": "no module 'hydra' in glassrec.config.compose",
    "glassrec.config.groups.Path": "pathlib.Path is not allowed",
    "glassrec.run.directory.subprocess": "no class 'subprocess'",
    "glassrec.models.base.Recommender.load": "no module 'Recommender' in glassrec.models.base",
    "glassrec.models.ncff.GMF": "no module 'ncff' in glassrec.models; did you mean 'ncf'?",
    "glassrec.models.ncf.GMFF": "no class 'GMFF' in glassrec.models.ncf; did you mean 'GMF'?",
    "glassrek.models.ncf.GMF": "no module 'glassrek'",
    "eval": "'eval' is not a path",
    "": "'' is not a path",
    "..": "no module",
    ".eval": "is not a path",
    "own_package.models.Own": "own_package.models.Own is not allowed; a target is defined in",
    "own_package.models.function": "own_package.models.function is not allowed",
    "own_package.models.Rebound": "no class 'Rebound' in own_package.models",
    "own_package.circle.A": "imported in a circle",
}


@pytest.mark.parametrize(("target", "reason"), REFUSED.items(), ids=REFUSED)
def test_anything_else_is_refused_without_an_import(package, target, reason):
    rebound = "from glassrec.models.ncf import GMF\nclass Rebound(GMF): ...\nRebound = eval"
    package(models=f"class Own: ...\ndef function(): ...\n{rebound}")
    package(circle="from own_package.ring import A", ring="from own_package.circle import A")
    with pytest.raises(LookupError) as refusal:
        targets.resolve(target)
    assert reason in refusal.value.args[0]


def test_fields_are_inherited_and_those_that_init_does_not_take_are_left_out(package):
    package(
        base="from dataclasses import dataclass, field, KW_ONLY\n"
        "from typing import ClassVar\nfrom glassrec.data.dataset import Source\n"
        "@dataclass(frozen=True)\nclass Base(Source):\n  a: int\n  b: int = 1\n"
        "  limit: ClassVar[int] = 3\n  made: int = field(init=False)\n",
        models="import dataclasses as d\nfrom own_package.base import Base\n"
        "@d.dataclass(frozen=True)\nclass Own(Base):\n  _: d.KW_ONLY\n  b: str\n"
        "  c: list[int] = d.field(default_factory=list)\n  e: int = d.field(repr=False)\n",
    )
    signature = targets.signature(targets.resolve("own_package.models.Own"))
    required = {name: parameter.required for name, parameter in signature.parameters.items()}
    assert required == {"a": True, "b": True, "c": False, "e": True}
    assert not signature.open


def test_a_target_that_takes_any_name_says_so(package):
    package(models="from glassrec.models.ncf import GMF\nclass Own(GMF):\n"
                   "  def __init__(self, data, *args, k=1, **more): ...")  # fmt: skip
    signature = targets.signature(targets.resolve("own_package.models.Own"))
    assert signature.open
    assert {n: p.required for n, p in signature.parameters.items()} == {"data": True, "k": False}


def test_namespace_packages_are_searched(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    Path(tmp_path, "own_space", "inner").mkdir(parents=True)
    Path(tmp_path, "own_space", "inner", "m.py").write_text(ALLOWED["alias"])
    assert targets.resolve("own_space.inner.m.Own").tree.name == "Own"
