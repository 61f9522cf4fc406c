"""The handwritten digits that come inside scikit-learn, with a fixed split."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

HELD_OUT = 500
"""Images kept for testing, of 1,797."""


class Images(NamedTuple):
    """x [N, 1, 8, 8] float32 in [0, 1]; y [N] int64, the digit."""

    x: Tensor
    y: Tensor


def digits_split() -> tuple[Images, Images]:
    """The training images (1,297) and the held-out ones (500).

    Pixels of 0 to 16 are divided by 16. The order is that of the SHA-256 hashes of the rows' numbers, so that the split
    is the same in every version of every library; the first 500 are held out.

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    order = sorted(range(len(images)), key=lambda row: hashlib.sha256(str(row).encode()).digest())
    x = torch.tensor(images[order] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(digits[order], dtype=torch.int64)
    return Images(x[HELD_OUT:], y[HELD_OUT:]), Images(x[:HELD_OUT], y[:HELD_OUT])
