"""Properties: margins against rows, losses, parsing."""

import pytest
import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.labels import TopK
from withstand.core.property import Argmax, Band, Linear, NotClass, Property
from withstand.core.property_text import parse_property
from withstand.core.sides import MultiLabel

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
    (TopK(1), LABELS),
    (TopK(3), LABELS),
    (MultiLabel(), (OUTPUTS > 0.3).long()),
    (MultiLabel("probabilities", 0.3), (OUTPUTS > 0.3).long()),
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


@pytest.mark.parametrize(
    "text",
    [
        "argmax",
        "not-class:3",
        "band:0.1",
        "top-k:5",
        "multi-label",
        "binary",
        "binary:outputs=probabilities",
        "multi-label:outputs=logits,threshold=-0.7",
    ],
)
def test_texts_read_back(text: str) -> None:
    assert str(parse_property(text)) == text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("multi-label:3", "after multi-label: write outputs=logits"),
        ("binary:outputs=odds", "logits or probabilities, not 'odds'"),
        ("binary:threshold=nan", "no finite number"),
        ("binary:outputs=probabilities,threshold=2", "no probability between 0 and 1"),
        ("binary:outputs=logits,outputs=logits", "is not understood"),
    ],
)
def test_sides_that_cannot_be_meant(text: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        parse_property(text)


def test_cross_entropy_of_probabilities_is_that_of_their_logits() -> None:
    z, y = OUTPUTS, (OUTPUTS > 0.2).long()
    for target in (None, torch.arange(40) % 5):
        ours = MultiLabel("probabilities").loss("ce", z.sigmoid(), y, target)
        torch.testing.assert_close(ours, MultiLabel("logits").loss("ce", z, y, target))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "argmin",
        "argmax:1",
        "not-class:",
        "not-class:x",
        "band:-1",
        "band:0",
        "band",
        "top-k:0",
        "top-k",
    ],
)
def test_errors_say_what_to_write(text: str) -> None:
    with pytest.raises(InputError, match="is not understood; write argmax, not-class:CLASS, top-k:K"):
        parse_property(text)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_breaks_when_k_others_pass_the_label(k: int) -> None:
    rank = (OUTPUTS.gather(1, LABELS[:, None]) < OUTPUTS).sum(1)
    property = TopK(k)
    assert torch.equal(property.margin(OUTPUTS, LABELS) <= 0, rank >= k)
    targets = property.targets(OUTPUTS, LABELS)
    assert targets.shape == (40, 4)
    torch.testing.assert_close(
        targets.amin(1),
        property.rows(LABELS, 5, torch.float64).combine(property.rows(LABELS, 5, torch.float64).value(OUTPUTS)),
    )


def test_top_k_of_many_classes_is_attacked_not_proved() -> None:
    outputs = torch.randn(3, 1000, generator=torch.Generator().manual_seed(4))
    assert TopK(5).margin(outputs, torch.tensor([0, 1, 2])).shape == (3,)
    with pytest.raises(InputError, match="cannot be proved"):
        TopK(5).rows(torch.tensor([0]), 1000)
    with pytest.raises(InputError, match="always holds of 5 classes; choose a k from 1 to 4"):
        TopK(5).margin(OUTPUTS, LABELS)


def test_labels_of_a_set_keep_their_side() -> None:
    z, y = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1, 0, 0]])
    assert MultiLabel().margin(z, y).item() == -0.5
    assert MultiLabel().margin(z, torch.tensor([[1, 0, 1]])).item() == 0.5
    near, far = (MultiLabel().loss("ce", torch.tensor([[a, -1.0]]), torch.tensor([[1, 0]])) for a in (0.1, 3.0))
    assert near < far
    assert (MultiLabel().answer(z).item(), MultiLabel().label(y).item()) == (2, 1)


def test_a_property_without_rows_says_so() -> None:
    class Odd(Property):
        def __str__(self) -> str:
            return "odd"

        def targets(self, outputs: Tensor, y: Tensor) -> Tensor:
            return outputs[:, :1] * outputs[:, 1:2]

    torch.testing.assert_close(Odd().margin(OUTPUTS, LABELS), OUTPUTS[:, 0] * OUTPUTS[:, 1])
    with pytest.raises(InputError, match="The property odd is not made of linear rows"):
        Odd().rows(LABELS, 5)


def test_rows_alone_have_the_same_bits_as_in_a_batch() -> None:
    weight, offset = torch.randn(99, 101, generator=torch.Generator().manual_seed(5)).split([100, 1], 1)
    many = torch.randn(40, 100, generator=torch.Generator().manual_seed(6))
    property, y = Linear(weight, offset[:, 0], torch.arange(99)), torch.zeros(40, dtype=torch.long)
    alone = [property.targets(one[None], y[:1]) for one in many]
    assert torch.equal(torch.cat(alone), property.targets(many, y))
