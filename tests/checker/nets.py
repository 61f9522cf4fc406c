"""Small networks as ONNX files, made node by node."""

from itertools import pairwise
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from withstand.checker.network import Network
from withstand.checker.reading import read_network

OPSET = 17


class File:
    """An ONNX file while it is made; constants are random or given."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0, kind: type = np.float32) -> None:
        self.random = np.random.default_rng(seed)
        self.shape, self.kind = shape, np.dtype(kind)
        self.nodes, self.constants = [], []

    def constant(self, value) -> str:
        """A stored array."""
        name = f"c{len(self.constants)}"
        array = np.asarray(value)
        array = array if array.dtype.kind in "iub" else array.astype(self.kind)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        """A stored random array."""
        return self.constant(self.random.normal(size=shape) * scale)

    def add(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> str:
        """A node; gives the name of its first output."""
        names = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attrs))
        return names[0]

    def bytes(self, output: str, opset: int = OPSET) -> bytes:
        """The file."""
        kind = helper.np_dtype_to_tensor_dtype(self.kind)
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, list(self.shape))],
            [helper.make_tensor_value_info(output, kind, None)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        return model.SerializeToString()


def chain(sizes: list[int], seed: int, activation: str = "Relu", scale: float = 1.0) -> bytes:
    """Affine maps with activations in between."""
    file, last = File((1, sizes[0]), seed), "x"
    for i, (a, b) in enumerate(pairwise(sizes)):
        last = file.add("Gemm", last, file.normal(b, a, scale=scale / a**0.5), file.normal(b, scale=0.3), transB=1)
        if i < len(sizes) - 2:
            last = file.add(activation, last)
    return file.bytes(last)


def convolutional(seed: int) -> bytes:
    """Convolution with stride, pads and groups, batch norm, average pooling, and a dense layer."""
    file = File((1, 2, 4, 4), seed)
    y = file.add("Conv", "x", file.normal(4, 2, 3, 3, scale=0.3), strides=[1, 1], pads=[1, 1, 1, 1])
    positive = file.constant(file.random.uniform(0.5, 2, 4))
    y = file.add("BatchNormalization", y, file.normal(4), file.normal(4), file.normal(4, scale=0.3), positive)
    y = file.add("Relu", y)
    y = file.add("Conv", y, file.normal(4, 2, 2, 2, scale=0.5), file.normal(4), strides=[2, 2], group=2)
    y = file.add("AveragePool", file.add("Relu", y), kernel_shape=[2, 2])
    return file.bytes(file.add("Gemm", file.add("Flatten", y), file.normal(4, 3), file.normal(3)))


def residual(seed: int, activation: str = "Relu") -> bytes:
    """Two blocks that add their input to their output, and one that subtracts it."""
    file = File((1, 3), seed)
    y = file.add("Gemm", "x", file.normal(3, 5, scale=0.6), file.normal(5, scale=0.3))
    for op in ("Add", "Sub"):
        inner = file.add(activation, y)
        inner = file.add("MatMul", inner, file.normal(5, 5, scale=0.5))
        inner = file.add(activation, file.add("Add", inner, file.normal(5, scale=0.3)))
        y = file.add(op, file.add("MatMul", inner, file.normal(5, 5, scale=0.5)), y)
    return file.bytes(file.add("Gemm", file.add(activation, y), file.normal(5, 3), file.normal(3)))


def mixed(seed: int) -> bytes:
    """Every kind of activation the checker knows."""
    file = File((1, 3), seed)
    y = file.add("Gemm", "x", file.normal(3, 4), file.normal(4, scale=0.3))
    slopes = file.constant([0.25, -0.5, 1.5, 0.0])
    ends = file.constant(-0.5), file.constant(0.75)
    layers: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
        ("Sigmoid", (), {}),
        ("LeakyRelu", (), {"alpha": 0.1}),
        ("Softplus", (), {}),
        ("Elu", (), {"alpha": 0.7}),
        ("PRelu", (slopes,), {}),
        ("Clip", ends, {}),
        ("Tanh", (), {}),
        ("Abs", (), {}),
    ]
    for op, extra, attrs in layers:
        y = file.add(op, y, *extra, **attrs)
        y = file.add("Gemm", y, file.normal(4, 4, scale=1.0), file.normal(4, scale=0.3))
    return file.bytes(y)


def pooled(seed: int) -> bytes:
    """Max pooling with overlapping and padded windows, before and after a ReLU, and over all places."""
    file = File((1, 2, 4, 4), seed)
    y = file.add("Conv", "x", file.normal(3, 2, 2, 2, scale=0.4), file.normal(3, scale=0.3))
    y = file.add("MaxPool", y, kernel_shape=[2, 2], strides=[1, 1], pads=[1, 0, 0, 1])
    y = file.add("Conv", file.add("Relu", y), file.normal(4, 3, 2, 2, scale=0.4), file.normal(4, scale=0.3))
    y = file.add("GlobalMaxPool", file.add("Relu", y))
    return file.bytes(file.add("Gemm", file.add("Flatten", y), file.normal(4, 3), file.normal(3)))


def affine(seed: int) -> bytes:
    """A single affine map."""
    file = File((1, 3), seed)
    return file.bytes(file.add("Gemm", "x", file.normal(3, 3), file.normal(3)))


KINDS = {
    "fc": lambda seed: chain([3, 6, 6, 3], seed),
    "conv": convolutional,
    "pooled": pooled,
    "residual": residual,
    "sigmoid": lambda seed: chain([3, 6, 6, 3], seed, "Sigmoid", 2.0),
    "tanh": lambda seed: chain([3, 6, 6, 3], seed, "Tanh", 1.5),
    "residual tanh": lambda seed: residual(seed, "Tanh"),
    "mixed": mixed,
}
"""Kinds of small networks by name, each made from a seed."""


def network(kind: str, seed: int) -> Network:
    """One of `KINDS` as the checker reads it."""
    return read_network(KINDS[kind](seed))
