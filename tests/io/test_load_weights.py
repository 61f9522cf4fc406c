"""Weights come in from safetensors and from torch's files without objects; pickles stay out."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from withstand.core.errors import InputError
from withstand.io.weights import load_weights

STATE = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def write(path, content):
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin"])
def test_weights_come_back_as_saved(tmp_path, name):
    got = load_weights(write(tmp_path / name, STATE))
    assert got.keys() == STATE.keys()
    assert all(torch.equal(got[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_is_unwrapped(tmp_path, key):
    got = load_weights(write(tmp_path / "w.ckpt", {key: STATE, "epoch": 3}))
    assert torch.equal(got["bias"], STATE["bias"])


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    for name in ("w.pt", "w.pkl"):
        torch.save({"weight": Bomb(tmp_path / "ran")}, tmp_path / name)
        with pytest.raises(InputError, match=r"refused.* pickle.* run any code"):
            load_weights(tmp_path / name)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(InputError, match="refused"):
        load_weights(tmp_path / "plain.pth")
    assert not (tmp_path / "ran").exists()


def test_a_whole_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 1), tmp_path / "w.pt")
    with pytest.raises(InputError, match="holds more than tensors"):
        load_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_damaged_missing_and_empty_files(tmp_path, name):
    with pytest.raises(InputError, match="There is no weights file"):
        load_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(InputError, match="cannot be read"):
        load_weights(tmp_path / name)
    write(tmp_path / "empty.pt", {"epoch": 3})
    with pytest.raises(InputError, match="no tensors by name"):
        load_weights(tmp_path / "empty.pt")
