"""Properties: margins against rows, losses, parsing."""

import pytest
import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.property import Argmax, Band, Linear, NotClass, Property, parse_property

OUTPUTS = torch.randn(40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 5
UNSAFE = Linear(
    torch.randn(6, 5, generator=torch.Generator().manual_seed(1)),
    torch.randn(6, generator=torch.Generator().manual_seed(2)),
    torch.tensor([1, 0, 2, 0, 1, 1]),
)
CASES: list[tuple[Property, Tensor]] = [
    (Argmax(), LABELS),
    (NotClass(2), LABELS),
    (Band(0.7), OUTPUTS[:, :1] + 0.1),
    (Band(0.7), OUTPUTS + 0.3),
    (UNSAFE, LABELS),
]


@pytest.mark.parametrize(("property", "y"), CASES, ids=lambda v: str(v) if isinstance(v, Property) else "")
def test_margin_is_the_combined_rows(property: Property, y: Tensor) -> None:
    rows = property.rows(y, 5, torch.float64)
    torch.testing.assert_close(property.margin(OUTPUTS, y), rows.combine(rows.value(OUTPUTS)))
    some = torch.tensor([3, 17])
    torch.testing.assert_close(rows[some].value(OUTPUTS[some]), rows.value(OUTPUTS)[some])
    torch.testing.assert_close(property.loss("margin", OUTPUTS, y), property.margin(OUTPUTS, y))


def test_argmax_margin_is_the_gap_to_the_best_other_label() -> None:
    margin = Argmax().margin(OUTPUTS, LABELS)
    assert torch.equal(margin > 0, OUTPUTS.argmax(1) == LABELS)
    assert Argmax().margin(torch.tensor([[1.0, 3.0, 2.5]]), torch.tensor([1])).item() == 0.5
    assert Argmax().margin(torch.tensor([[3.0, 3.0]]), torch.tensor([0])).item() == 0


def test_not_class_breaks_when_the_target_leads() -> None:
    assert torch.equal(NotClass(3).margin(OUTPUTS, LABELS) <= 0, OUTPUTS.argmax(1) == 3)


def test_band_breaks_when_an_output_strays() -> None:
    y = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    margin = Band(0.5).margin(torch.tensor([[1.2, 2.0], [1.0, 1.3]]), y)
    torch.testing.assert_close(margin, torch.tensor([0.3, -0.2]))


def test_groups_are_an_and_of_ors() -> None:
    value = UNSAFE.weight.double() @ OUTPUTS[0] + UNSAFE.offset.double()
    groups = [value[UNSAFE.group == g].max() for g in range(3)]
    torch.testing.assert_close(UNSAFE.margin(OUTPUTS[:1], LABELS[:1])[0], torch.stack(groups).min())


def test_losses_fall_towards_violation() -> None:
    z, y = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.0, -1.0]]), torch.tensor([0, 0])
    for name in ("margin", "ce", "dlr"):
        near = Argmax().loss(name, z, y)
        assert near[1] < near[0]
    aimed = NotClass(1).loss("ce", z, y)
    assert aimed[1] < aimed[0]


def test_losses_a_property_lacks_and_wrong_sizes() -> None:
    with pytest.raises(InputError, match="has no loss 'ce'; use margin"):
        Band(0.1).loss("ce", OUTPUTS, OUTPUTS)
    with pytest.raises(InputError, match="has no loss 'dlr'"):
        NotClass(1).loss("dlr", OUTPUTS, LABELS)
    with pytest.raises(InputError, match="outside the model's classes 0 to 4"):
        NotClass(7).rows(LABELS, 5)
    with pytest.raises(InputError, match="speaks of 5 outputs, the model has 3"):
        UNSAFE.rows(LABELS, 3)


@pytest.mark.parametrize("text", ["argmax", "not-class:3", "band:0.1"])
def test_texts_read_back(text: str) -> None:
    assert str(parse_property(text)) == text


@pytest.mark.parametrize("text", ["", "argmin", "argmax:1", "not-class:", "not-class:x", "band:-1", "band:0", "band"])
def test_errors_say_what_to_write(text: str) -> None:
    with pytest.raises(InputError, match="is not understood; write argmax, not-class:CLASS or band:WIDTH"):
        parse_property(text)
