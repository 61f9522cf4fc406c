"""Properties from texts: built in, or the user's own by import path."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from loading import sentence

from withstand.core.errors import InputError
from withstand.core.property import Argmax
from withstand.io.properties import load_property

SOURCE = """
from dataclasses import dataclass

import torch

from withstand.core.property import Argmax, Property


@dataclass(frozen=True)
class Lead(Property):
    '''The first output stays above the second by more than `by`.'''

    by: float = 0.0

    def targets(self, outputs, y):
        return outputs[:, :1] - outputs[:, 1:2] - self.by


plain = Argmax()


def make(by):
    return Lead(by=by)


def number():
    return 3


size = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_properties.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_properties", None)


@pytest.mark.parametrize(
    ("text", "margin"),
    [("my_properties:Lead", 0.5), ("my_properties:Lead?by=0.2", 0.3), ("my_properties:make?by=1", -0.5)],
)
def test_a_users_property_is_found_and_named(text: str, margin: float) -> None:
    held = load_property(text)
    assert str(held) == text
    outputs = torch.tensor([[1.0, 0.5]])
    assert held.margin(outputs, torch.tensor([0])).item() == pytest.approx(margin)
    assert held.loss("margin", outputs, torch.tensor([0])).item() == pytest.approx(margin)
    with pytest.raises(InputError, match="not made of linear rows"):
        held.rows(torch.tensor([0]), 2)


def test_what_a_property_offers_shows_through() -> None:
    held = load_property("my_properties:plain")
    assert (held.losses, held.reads) == (Argmax.losses, "class")
    assert torch.equal(held.rows(torch.tensor([1]), 3).weight, Argmax().rows(torch.tensor([1]), 3).weight)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("my_properties:Laed", "did you mean 'Lead'"),
        ("my_propertis:Lead", "did you mean 'my_properties'"),
        ("my_properties:number", "returned int"),
        ("my_properties:size", "is int"),
        ("my_properties:Lead?width=3", "width"),
        ("argmin", "write argmax, not-class:CLASS, top-k:K, binary, multi-label, band:WIDTH, out[3] > out[other] or"),
        ("bnad:0.1", "is not understood"),
    ],
)
def test_errors_say_what_to_do(text: str, word: str) -> None:
    with pytest.raises(InputError) as caught:
        load_property(text)
    assert word in sentence(caught)
