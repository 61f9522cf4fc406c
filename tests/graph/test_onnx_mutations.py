"""Networks with fields taken out, doubled or set to odd values: read, or refused in a sentence."""

import random

import onnx
import torch
from torch import nn

from withstand.core.errors import InputError
from withstand.graph.capture import capture
from withstand.graph.onnx_reader import read_onnx
from withstand.graph.onnx_writer import write_onnx

INTEGERS, TEXTS = (0, 1, 2, 3, 7), ("", "x", "Tile", "Loop", "Relu", "Resize")


def parts(message) -> list:
    """A message and all messages in it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                found += parts(one)
    return found


def odd(value, draw: random.Random):
    if isinstance(value, bytes):
        return value[: draw.randrange(len(value) + 1)]
    return draw.choice(INTEGERS) if isinstance(value, int) else draw.choice(TEXTS) if isinstance(value, str) else 1e30


def mutate(graph, draw: random.Random) -> None:
    """Change one field somewhere."""
    message = draw.choice([one for one in parts(graph) if one.ListFields()])
    field, value = draw.choice(message.ListFields())
    if draw.random() < 0.2:
        message.ClearField(field.name)
    elif field.is_repeated:
        place = draw.randrange(len(value))
        if field.message_type is None:
            value[place] = odd(value[place], draw)
        elif draw.random() < 0.5:
            del value[place]
        else:
            value.add().CopyFrom(value[place])
    elif field.message_type is None and field.enum_type is None:
        setattr(message, field.name, odd(value, draw))


def test_every_mutation_is_read_or_refused() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3), nn.Softmax(1))
    whole = write_onnx(capture(nn.Sequential(*layers), (1, 4, 4)))
    draw, refused = random.Random(5), 0
    for _ in range(60):
        model = onnx.load_model_from_string(whole)
        mutate(model.graph, draw)
        try:
            read_onnx(model.SerializeToString())
        except InputError:
            refused += 1
    assert 15 < refused < 60
