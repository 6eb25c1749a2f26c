"""Files of torch.save are read without running code, those of other projects' loops included."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch

from glassrec.data.torch_file import load_state_dict, load_torch_file


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_alone_or_among_the_numbers_of_a_training_loop(tmp_path, zipped):
    state = torch.nn.Linear(2, 3).state_dict()
    loop = {"epoch": 3, "loss": np.float32(0.5), "acc": np.float64(80), "state_dict": state}
    for content in (state, loop):
        path = tmp_path / "model.pt"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        found = load_state_dict(path)
        assert [*found] == ["weight", "bias"]
        assert torch.equal(found["weight"], state["weight"])
    assert load_torch_file(path)["loss"] == 0.5


@pytest.mark.parametrize("zipped", [True, False])
def test_other_objects_are_named_and_not_loaded(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 3), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"model.pt holds torch.nn.modules.linear.Linear, not .*NEW"
    ):
        load_torch_file(path)


class Attack:
    def __reduce__(self):
        return (open, ("attacked", "w"))


def test_no_code_of_a_file_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.ones(1)}, "x": Attack()}, "model.pt")
    with pytest.raises(ValueError, match="open, not tensors alone"):
        load_torch_file(tmp_path / "model.pt")
    assert not (tmp_path / "attacked").exists()


def test_other_formats_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 3).state_dict(), path)
    whole = path.read_bytes()
    for content in (b"hello, this is no file of torch", whole[:-200], pickle.dumps({"a": 1})):
        path.write_bytes(content)
        with warnings.catch_warnings(action="error"), pytest.raises(ValueError, match="damaged"):
            load_torch_file(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match="holds no state dict"):
        load_state_dict(path)
    with pytest.raises(ValueError, match="no such file"):
        load_torch_file(tmp_path / "missing.pt")
