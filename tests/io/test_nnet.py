"""NNet files: outputs equal a plain evaluation that clips and normalises, and bad files get one sentence."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.core.errors import InputError
from withstand.graph.replay import OnnxSession
from withstand.io.models import load_model
from withstand.io.nnet import read_nnet
from withstand.verification.vnncomp import decide


def make(sizes: list[int], seed: int) -> dict:
    """Random numbers of a file."""
    draw = np.random.default_rng(seed)
    n = sizes[0]
    low = draw.uniform(-5, 0, n)
    return {
        "sizes": sizes,
        "low": low,
        "high": low + draw.uniform(0.5, 8, n),
        "mean": draw.normal(size=n + 1) * 3,
        "spread": draw.uniform(0.2, 9, n + 1) * draw.choice([-1, 1], n + 1),
        "layers": [(draw.normal(size=(b, a)), draw.normal(size=b)) for a, b in pairwise(sizes)],
    }


def write(net: dict, path: Path) -> Path:
    """The numbers as the ACAS Xu files lay them out: a trailing comma on every line, a row of weights a line."""
    sizes = net["sizes"]
    lines = ["// a network", "// of a test", f"{len(sizes) - 1},{sizes[0]},{sizes[-1]},{max(sizes)},"]
    lines += [",".join(map(str, sizes)) + ",", "0,"]
    lines += [",".join(map(repr, map(float, net[name]))) + "," for name in ("low", "high", "mean", "spread")]
    for weight, bias in net["layers"]:
        lines += [",".join(map(repr, map(float, row))) + "," for row in weight] + [f"{float(b)!r}," for b in bias]
    path.write_text("\n".join(lines) + "\n")
    return path


def evaluate(net: dict, x: np.ndarray) -> np.ndarray:
    """Outputs of one input, step by step in float64."""
    value = (np.clip(x, net["low"], net["high"]) - net["mean"][:-1]) / net["spread"][:-1]
    for number, (weight, bias) in enumerate(net["layers"], 1):
        value = weight @ value + bias
        if number < len(net["layers"]):
            value = np.maximum(value, 0)
    return value * net["spread"][-1] + net["mean"][-1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(0, 10_000))
def test_outputs_equal_a_plain_evaluation(tmp_path_factory, sizes, seed):
    net = make(sizes, seed)
    model = read_nnet(write(net, tmp_path_factory.mktemp("nnet") / "net.nnet"))
    assert (model.input_shape, model.output_shape) == ((sizes[0],), (sizes[-1],))
    x = np.random.default_rng(seed).uniform(-9, 9, (20, sizes[0])).astype(np.float32)
    want = np.stack([evaluate(net, row) for row in x.astype(np.float64)])
    scale = 1e-5 * max(1.0, np.abs(want).max())
    assert model(torch.from_numpy(x)).numpy() == pytest.approx(want, abs=scale, rel=1e-5)
    assert OnnxSession(model.onnx_bytes())(x) == pytest.approx(want, abs=scale, rel=1e-5)


@pytest.fixture
def distance(tmp_path):
    """|x0 - x1| of inputs clipped to [0, 10], in units of 5 around 5, and doubled outputs less 1."""
    weights = [(np.array([[1.0, -1.0], [-1.0, 1.0]]), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]
    net = {"sizes": [2, 2, 1], "low": [0, 0], "high": [10, 10], "layers": weights}
    return write(net | {"mean": np.array([5.0, 5.0, -1.0]), "spread": np.array([5.0, 5.0, 2.0])}, tmp_path / "d.nnet")


def test_known_outputs(distance):
    x = torch.tensor([[5.0, 5.0], [10.0, 0.0], [12.0, -7.0], [7.5, 5.0]])
    assert load_model(str(distance))(x).flatten().tolist() == [-1, 3, 3, 0]


@pytest.mark.parametrize(("limit", "word"), [(2.99, "sat"), (3.01, "unsat")])
def test_questions_about_it_are_answered_and_replayed(distance, tmp_path, limit, word):
    head = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)\n"
    box = "".join(f"(assert (>= X_{i} -20))(assert (<= X_{i} 20))" for i in range(2))
    (tmp_path / "p.vnnlib").write_text(f"{head}{box}(assert (>= Y_0 {limit}))")
    answer = decide(distance, tmp_path / "p.vnnlib", 30)
    assert answer.result == word
    if answer.witness is not None:
        x0, x1 = answer.witness[0].clamp(0, 10).tolist()
        assert abs(x0 - x1) >= 9.97


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace("2,2,1,2,", "2,2,x,2,", 1), "line 3: 'x' is no number"),
        (lambda text: text.replace("2,2,1,2,", "2,2,3,2,"), "states 2 inputs and 3 outputs, but layers from 2 to 1"),
        (lambda text: "\n".join(text.splitlines()[:-1]), "ends within its biases of layer 2"),
        (lambda text: "// only a comment\n", "ends within its numbers of layers"),
        (lambda text: text + "1.0,\n", "1 numbers too many"),
        (lambda text: text.replace("5.0,5.0,2.0", "5.0,0.0,2.0"), "a range of zero"),
        (lambda text: text.replace("0.0,0.0,\n10.0,10.0", "0.0,11.0,\n10.0,10.0"), "minimum above its maximum"),
        (lambda text: text.replace("1.0,-1.0", "nan,-1.0"), "'nan' is not finite"),
        (lambda text: text.replace("2,2,1,2", "2,2,1.5,2"), "no positive whole numbers"),
    ],
)
def test_bad_files_get_one_sentence(distance, change, sentence):
    text = distance.read_text()
    distance.write_text(change(text))
    assert distance.read_text() != text
    with pytest.raises(InputError, match=sentence):
        read_nnet(distance)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_nnet(tmp_path / "none.nnet")
