"""The checkpoint file: whole or not at all, and every damage noticed."""

import random

import pytest
import torch

from glassrec.training.job import AtomicCheckpointIO
from glassrec.training.job import read_checkpoint as read

CONTENT = {"weights": torch.arange(50.0), "epoch": 3, "rows": [{"loss": 0.5}]}


def test_what_is_saved_is_read_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    found = read(path)
    assert torch.equal(found.pop("weights"), CONTENT["weights"])
    assert found == {"epoch": 3, "rows": [{"loss": 0.5}]}
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def crash(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", crash)
        with pytest.raises(KeyboardInterrupt):
            AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert read(path) == {"epoch": 1}
    AtomicCheckpointIO().save_checkpoint({"epoch": 3}, path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_flipped_bit_anywhere_is_refused_or_harmless(tmp_path):
    path, bits = tmp_path / "a.ckpt", random.Random(0)
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    whole, refused = path.read_bytes(), 0
    for place in bits.sample(range(len(whole)), 600):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << bits.randrange(8)]) + whole[place + 1 :]
        )
        try:
            found = read(path)
        except ValueError as error:
            refused += 1
            assert "a.ckpt is damaged" in str(error)  # noqa: PT017
        else:
            assert torch.equal(found.pop("weights"), CONTENT["weights"])
            assert found == {"epoch": 3, "rows": [{"loss": 0.5}]}
    assert refused > 200


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 101):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged"):
            read(path)


def test_code_hidden_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('boom')",))

    path = tmp_path / "a.ckpt"
    torch.save({"weights": Bomb()}, path)
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        read(path)


def test_a_missing_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.ckpt")
