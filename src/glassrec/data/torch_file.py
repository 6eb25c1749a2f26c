"""Files of `torch.save`, read without running the code that they may hold."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.serialization import safe_globals

from glassrec.data.content import existing

_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY: list[Any] = [
    *((_SCALAR, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")),
    *(np.dtype, *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?"))),
]


def load_torch_file(path: Path) -> Any:
    """The tensors, numbers and texts of a file, in its lists and dicts; tensors on the CPU.

    They are read when they are used, where the file allows it. NumPy's numbers are allowed too:
    many training loops keep losses so. ValueError for other Python objects, and other files.
    """
    mapped = zipfile.is_zipfile(existing(path))
    try:
        with warnings.catch_warnings(action="ignore"), safe_globals(_NUMPY):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # whatever a file of another format makes of the reader
        found = re.search(r"GLOBAL (\S+)|TorchScript", str(error))
    if found is None:
        raise ValueError(f"{path}: not a file of torch.save, or a damaged one")
    raise ValueError(
        f"{path} holds {found[1] or 'TorchScript'}, not tensors alone, and loading it runs its "
        "code; where you trust the file, write a new one: "
        "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW), or .state_dict()"
    )


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a model by name: the file's dict, or that under its key `state_dict`;
    ValueError if there is none.
    """
    content = load_torch_file(path)
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(isinstance(x, Tensor) for x in content.values()):
        raise ValueError(
            f"{path} holds no state dict, as torch.save(model.state_dict(), FILE) does"
        )
    return content
