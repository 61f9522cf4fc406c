"""The trained network of the tests of audits."""

import numpy as np
import pytest
from lab import Lab, N, train, write_mlp

from withstand.builtin.digits import digits_split


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The trained network and its files."""
    home = tmp_path_factory.mktemp("lab")
    net = train()
    _, held_out = digits_split()
    x, y = held_out.x.flatten(1)[:N].contiguous(), held_out.y[:N]
    write_mlp(net, home / "mlp.onnx")
    np.savez(home / "digits.npz", x=x.numpy(), y=y.numpy())
    return Lab(net, x, y, str(home / "mlp.onnx"), str(home / "digits.npz"))
