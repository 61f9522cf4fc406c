"""A small decoder of images, which gives a search fewer and more natural directions: trained here, stored as
safetensors, read back from there or from an ONNX file."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from withstand.core.errors import InputError

WIDTH = 16
"""Channels of the hidden layers."""


class Decoder(nn.Module):
    """From codes [B, 1, ceil(H / 2), ceil(W / 2)] to images [B, C, H, W]: two layers, with nearest upsampling between
    them."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.shape = (channels, height, width)
        self.first = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, channels, 3, padding=1)

    @property
    def code(self) -> tuple[int, int, int]:
        """The shape of a code."""
        _, height, width = self.shape
        return 1, -(-height // 2), -(-width // 2)

    def forward(self, code: Tensor) -> Tensor:
        return self.second(functional.interpolate(self.first(code).relu(), self.shape[1:]))


def train(
    images: Tensor, file: str | Path, epochs: int = 5, batch: int = 128, rate: float = 3e-3, seed: int = 0
) -> float:
    """Train an encoder and a decoder on images [N, C, H, W] to rebuild them, and store the decoder in a safetensors
    file; returns the mean squared error of the last epoch.

    Take images that the attack will not be tried on. After Tu et al. 2019 (arXiv:1805.11770).
    """
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = Decoder(*images.shape[1:])
        encoder = nn.Sequential(
            nn.Conv2d(images.shape[1], WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(WIDTH, 1, 3, padding=1),
        )
        optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], rate)
        error = float("nan")
        for _ in range(epochs):
            errors = []
            for rows in torch.randperm(len(images)).split(batch):
                loss = functional.mse_loss(decoder(encoder(images[rows])), images[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                errors.append(loss.item() * len(rows))
            error = sum(errors) / len(images)
    shape = ",".join(map(str, decoder.shape))
    save_file(decoder.state_dict(), str(file), metadata={"shape": shape})
    return error


def load(file: str, shape: tuple[int, ...]) -> tuple[Callable[[Tensor], Tensor], tuple[int, ...]]:
    """A decoder to images of a shape [C, H, W], and the shape of its codes.

    file: what `train` stored, or an ONNX network. Raises InputError when there is none, or it makes other images.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"There is no decoder '{file}'; train one with withstand.attacks.parts.codec.train.")
    if path.suffix == ".onnx":
        from withstand.graph.onnx_reader import read_onnx

        model = read_onnx(path)
        made, code, decoder = tuple(model.output_shape), tuple(model.input_shape), model
    else:
        decoder = _stored(path)
        made, code = decoder.shape, decoder.code
    if made != shape:
        raise InputError(f"The decoder '{file}' makes images of shape {made}, not {shape}; train one on such images.")
    return decoder, code


def _stored(path: Path) -> Decoder:
    from safetensors import safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(str(path), "pt") as stored:
            shape = [int(n) for n in (stored.metadata() or {}).get("shape", "").split(",")]
        decoder = Decoder(*shape)
        decoder.load_state_dict(load_file(path))
    except Exception as error:
        raise InputError(
            f"'{path}' is not a decoder that withstand.attacks.parts.codec.train stored, so train it again ({error})."
        ) from error
    return decoder.requires_grad_(False).eval()
