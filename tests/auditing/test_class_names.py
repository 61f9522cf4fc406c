"""Labels by name: a class that is missing shifts no label, whatever form the labels have."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

import withstand
from withstand.auditing.question import pose
from withstand.core.errors import InputError
from withstand.graph.capture import capture
from withstand.graph.onnx_writer import write_onnx
from withstand.io.data import load_data

NAMES = ("ant", "bee", "cat", "dog")


class Level(nn.Module):
    """Names the class k of K for a grey image of level k / K, in [0, 1]."""

    at: torch.Tensor
    class_names: Sequence[str]
    class_to_idx: Mapping[str, int]

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("at", torch.arange(classes) / classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.flatten(1).mean(1, keepdim=True)
        return 2 * mean * self.at - self.at**2


def folders(root, labels: dict[str, int], classes: int) -> str:
    """Images of the level of each folder's class."""
    for name, label in labels.items():
        (root / name).mkdir(parents=True)
        Image.new("L", (3, 3), round(255 * label / classes)).save(root / name / "a.png")
    return str(root)


def posed(model, data, property="argmax", limit=None):
    with pose(model, data, "linf:0.001", property, limit=limit) as question:
        return question


def accuracy(model, data) -> float:
    return withstand.attack(model, data, "linf:0.001", ["fgsm"]).clean_accuracy


@pytest.mark.parametrize("missing", [(), (3,), (0, 9), tuple(range(9))])
def test_numbers_as_names_of_folders_are_labels(tmp_path, missing):
    held = {str(k): k for k in range(10) if k not in missing}
    data = folders(tmp_path / "d", held, 10)
    assert sorted(load_data(data).y.tolist()) == sorted(held.values())
    assert accuracy(Level(10), data) == 1.0


def test_twelve_numbered_folders_are_not_in_the_order_of_their_letters(tmp_path):
    assert accuracy(Level(12), folders(tmp_path / "d", {str(k): k for k in range(12)}, 12)) == 1.0


def test_names_are_matched_with_those_of_the_model(tmp_path):
    data = folders(tmp_path / "d", {"dog": 3, "bee": 1}, 4)
    mapping = {name: number for number, name in enumerate(NAMES)}
    for attribute, held in (
        ("class_names", list(NAMES)),
        ("classes", NAMES),
        ("class_to_idx", mapping),
        ("id2label", dict(enumerate(NAMES))),
    ):
        model = Level(4)
        setattr(model, attribute, held)
        assert accuracy(model, data) == 1.0
        question = posed(model, data)
        assert question.data.classes == NAMES
        assert any("matched with the model's names" in note for note in question.data.notes)
    strange = folders(tmp_path / "e", {"dog": 3, "cow": 1}, 4)
    with pytest.raises(InputError, match="name 'cow', none of the model's classes"):
        posed(model, strange)


@pytest.mark.parametrize("written", [json.dumps, str, ",".join])
def test_names_in_an_onnx_file(tmp_path, written):
    proto = onnx.load_model_from_string(write_onnx(capture(Level(4), (1, 3, 3))))
    onnx.helper.set_model_props(proto, {"names": written(NAMES if written is not str else dict(enumerate(NAMES)))})
    onnx.save(proto, tmp_path / "net.onnx")
    assert accuracy(str(tmp_path / "net.onnx"), folders(tmp_path / "d", {"dog": 3, "bee": 1}, 4)) == 1.0


def test_a_model_trained_on_folders_in_the_order_of_their_letters(tmp_path):
    """Its classes say so, and are heard before the numbers."""
    model = Level(12)
    order = sorted(str(k) for k in range(12))
    model.class_to_idx = {name: place for place, name in enumerate(order)}
    data = folders(tmp_path / "d", {name: place for place, name in enumerate(order) if name != "3"}, 12)
    assert accuracy(model, data) == 1.0


def test_other_names_need_as_many_as_there_are_classes(tmp_path):
    full = folders(tmp_path / "full", {name: k for k, name in enumerate(NAMES)}, 4)
    assert accuracy(Level(4), full) == 1.0
    (tmp_path / "gap" / "cat").mkdir(parents=True)
    assert accuracy(Level(4), folders(tmp_path / "gap", {"ant": 0, "bee": 1, "dog": 3}, 4)) == 1.0
    with pytest.raises(InputError, match="has 3 sub-folders, and Level has 4 classes"):
        posed(Level(4), folders(tmp_path / "less", {"ant": 0, "bee": 1, "dog": 3}, 4))
    with pytest.raises(InputError, match="has 4 sub-folders, and Level has 3 classes"):
        posed(Level(3), full)
    with pytest.raises(InputError, match="partly numbers, partly names"):
        posed(Level(4), folders(tmp_path / "mixed", {"0": 0, "1": 1, "2": 2, "rest": 3}, 4))
    with pytest.raises(InputError, match=r"07 and 7 of .* are the same label"):
        load_data(folders(tmp_path / "twice", {"7": 7, "07": 7}, 10))


def test_numbers_that_are_no_classes(tmp_path):
    with pytest.raises(InputError, match=r"label 4 .* count classes from 0"):
        posed(Level(4), folders(tmp_path / "one", {str(k): k for k in range(1, 5)}, 5))
    with pytest.raises(InputError, match="label -1"):
        posed(Level(4), folders(tmp_path / "below", {"-1": 0, "2": 2}, 4))


def test_words_in_files(tmp_path):
    x = np.array([[0.75], [0.25]], np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.array(["dog", "bee"]))
    np.savez(tmp_path / "b.npz", x=x, y=np.array([b"dog", b"bee"]))
    (tmp_path / "d.csv").write_text("a,label\n0.75,dog\n0.25,bee\n")
    model = Level(4)
    for file in ("d.npz", "b.npz", "d.csv"):
        with pytest.raises(InputError, match="has 2 words as labels, and Level has 4 classes"):
            posed(Level(4), str(tmp_path / file))
        model.class_names = NAMES
        assert accuracy(model, str(tmp_path / file)) == 1.0
    np.savez(tmp_path / "n.npz", x=x, y=np.array(["3", "1"]))
    assert accuracy(Level(4), str(tmp_path / "n.npz")) == 1.0


@pytest.mark.parametrize(
    ("cells", "says"), [(("1", "n/a"), "partly numbers and partly words"), (("a", ""), "is empty")]
)
def test_labels_of_two_forms_in_a_table(tmp_path, cells, says):
    (tmp_path / "d.csv").write_text(f"a,label\n0.7,{cells[0]}\n0.2,{cells[1]}\n")
    with pytest.raises(InputError, match=says):
        load_data(tmp_path / "d.csv")


@pytest.mark.parametrize("kind", [bool, np.float32, np.int8])
def test_one_hot_rows_are_as_wide_as_the_model(kind):
    x, y = np.array([[0.75], [0.25]], np.float32), np.eye(4)[[3, 1]].astype(kind)
    assert accuracy(Level(4), (x, y)) == 1.0
    with pytest.raises(InputError, match="has 3 columns of one-hot labels, and Level has 4 classes"):
        posed(Level(4), (x, y[:, 1:]))


def test_one_hot_rows_are_the_reference_of_a_regression():
    x, y = torch.tensor([[0.75], [0.25]]), torch.eye(4)[[3, 1]]
    assert posed(Level(4), (x, y), "band:0.1").y.tolist() == y.tolist()


def test_classes_counted_from_1_are_seen_beyond_the_limit():
    x, y = np.linspace(0, 1, 4, dtype=np.float32)[:, None], np.arange(1, 5)
    with pytest.raises(InputError, match=r"labels go from 1 to 4, .* count classes from 0"):
        posed(Level(4), (x, y), limit=2)


def test_two_folders_for_one_output(tmp_path):
    class Bright(nn.Module):
        def forward(self, x):
            return x.flatten(1).mean(1, keepdim=True) - 0.5

    data = folders(tmp_path / "d", {"dark": 0, "light": 1}, 1)
    assert withstand.attack(Bright(), data, "linf:0.001", ["fgsm"], property="binary").clean_accuracy == 1.0
    with pytest.raises(InputError, match="has 1 sub-folders"):
        posed(Bright(), folders(tmp_path / "e", {"light": 1}, 1), "binary")
