"""Reads ONNX files into op graphs, by walking the file as it runs on one sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from withstand.core.errors import InputError, told_of
from withstand.graph.agreement import check_against_onnxruntime
from withstand.graph.builder import Array, Builder, Unsupported, Value
from withstand.graph.deployed import Runtime
from withstand.graph.limits import MOST
from withstand.graph.model import Model, with_weights_inside
from withstand.graph.onnx_call import NEWEST, OLDEST, Call
from withstand.graph.onnx_file import parse_onnx
from withstand.graph.onnx_fold import fold
from withstand.graph.onnx_ops import table
from withstand.graph.replay import exported_rows
from withstand.graph.simplify import simplified

if TYPE_CHECKING:
    import onnx

LOWERED = {"Slice", "Split", "Squeeze", "Conv", "ConvTranspose", "BatchNormalization"}
LOWERED |= {"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"}
"""Operators that are lowered on constants too: onnx's reference does not compute all that onnxruntime does."""

MOST_MADE = 4 * MOST
"""Numbers of all constants that a file computes."""

HINT = "so what is proved of the graph does not hold for it; export it in float32 to prove something."


def read_onnx(source: str | Path | bytes, check: bool = True, name: str | None = None) -> Model:
    """The network of an ONNX file (operator sets 7 to 23), repaired to take any batch.

    source: a file (weights in files beside it are found) or its bytes. check: compare with onnxruntime on random
    inputs, batch 1 and 3. A network of float64 stays one; of those that compute in half precision the graph is one of
    float32 and onnxruntime the module, which `differs` says. Errors: InputError for what is no ONNX file, has more than
    one input or output, holds an operator without a lowering, or mixes float64 with a smaller type.
    """
    path = None if isinstance(source, bytes) else Path(source)
    name = name or (path.stem if path else "model")
    given = source if isinstance(source, bytes) else Path(source)
    proto = parse_onnx(given)
    with told_of(f"'{name}' cannot be read as an ONNX network, so export the model again"):
        reading = Reading(proto, name)
        raw = reading.builder.graph(reading.result)
        graph, differs = simplified(raw), _works_in_half(proto, name)
    notes, by = (), "onnxruntime"
    if check:
        by = check_against_onnxruntime(proto, given, raw, graph, reading.views, name, loosely=differs is not None)
    if by != "onnxruntime":
        notes = (f"onnxruntime cannot run '{name}' in its type, so {by} stands in for it.",)
    shapes = graph.input_shape, graph.output_shape
    if differs is not None:
        module = Runtime(source if isinstance(source, bytes) else with_weights_inside(Path(source)))
        return Model(name, graph, module, *shapes, source=path, differs=differs, notes=notes)
    return Model(name, graph, graph, *shapes, source=path, notes=notes, takes=graph.dtype)


class Reading:
    """One walk over a file. `views` maps each ONNX value to what it became; `result` is the output."""

    def __init__(self, proto: "onnx.ModelProto", name: str) -> None:
        from onnx import numpy_helper

        self.proto, self.name = proto, name
        self.opset = _opset(proto, name)
        self.made = 0
        self.values: dict[str, Array] = {"": torch.empty(0)}
        for tensor in proto.graph.initializer:
            with told_of(f"The weights '{tensor.name}' of '{name}' are damaged, so export the model again"):
                self.values[tensor.name] = _constant(numpy_helper.to_array(tensor))
        if proto.graph.sparse_initializer:
            held = proto.graph.sparse_initializer[0].values.name
            raise InputError(f"The weights '{held}' of '{name}' are sparse, so export them as dense ones.")
        graph_input, graph_output = self._ends()
        shape = [d.dim_value or None for d in graph_input.type.tensor_type.shape.dim]
        out = [d.dim_value or None for d in graph_output.type.tensor_type.shape.dim]
        self.rows = exported_rows(shape, out)
        self.builder = Builder(
            graph_input.name,
            self._sample_shape(shape),
            folded=self.rows is None,
            exported_rows=self.rows or 1,
            dtype=torch.float64 if graph_input.type.tensor_type.elem_type == 11 else torch.float32,
        )
        self.values[graph_input.name] = self.builder.input
        self.users = {used for node in proto.graph.node for used in node.input} | {graph_output.name}
        for node in proto.graph.node:
            self._read(node)
        self.result = self._result(graph_output.name)

    @property
    def views(self) -> dict[str, Value]:
        """The values that depend on the input, by their ONNX names."""
        return {name: value for name, value in self.values.items() if isinstance(value, Value)}

    def _ends(self) -> "tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]":
        inputs = [i for i in self.proto.graph.input if i.name not in self.values]
        outputs = list(self.proto.graph.output)
        for kind, found in (("input", inputs), ("output", outputs)):
            if len(found) != 1:
                names = ", ".join(v.name for v in found) or "none"
                raise InputError(
                    f"'{self.name}' has {len(found)} {kind}s ({names}), so export it with a single {kind}."
                )
        kind = inputs[0].type.tensor_type.elem_type
        if kind not in (1, 10, 11, 16):
            raise InputError(
                f"The input '{inputs[0].name}' of '{self.name}' is not a float tensor, so export one that is."
            )
        return inputs[0], outputs[0]

    def _sample_shape(self, shape: Sequence[int | None]) -> tuple[int, ...]:
        inner = shape if self.rows is None else shape[1:]
        if None in inner:
            raise InputError(f"Only the batch may be of open size in '{self.name}', so export it with fixed sizes.")
        fixed = tuple(s for s in inner if s is not None)
        return fixed if self.rows is None else (1, *fixed)

    def _read(self, node: "onnx.NodeProto") -> None:
        inputs = [self._lookup(name) for name in node.input]
        used = [o in self.users for o in node.output]
        known = [i for i in inputs if i is not None]
        if node.op_type == "Shape" and known:
            ends = {a.name: a.i for a in node.attribute}
            results: Any = torch.tensor(known[0].shape[ends.get("start", 0) : ends.get("end")], dtype=torch.int64)
        elif node.op_type == "Size" and known:
            results = torch.tensor(np.prod(known[0].shape), dtype=torch.int64)
        elif all(isinstance(i, Tensor) for i in known) and node.op_type not in LOWERED:
            results = self._fold(node)
        else:
            results = self._lower(node, inputs, _count(used))
        several = results if isinstance(results, list) else [results]
        self.values.update({o: value for o, value in zip(node.output, several) if o})

    def _lookup(self, name: str) -> Array | None:
        if name and name not in self.values:
            raise InputError(f"'{self.name}' reads '{name}', which nothing before makes, so export it again.")
        return self.values[name] if name else None

    def _lower(self, node: "onnx.NodeProto", inputs: Sequence[Array | None], outputs: int) -> Any:
        where = f"the ONNX operator {node.op_type} (node '{node.name or node.output[0]}' of '{self.name}')"
        rule = table().get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None:
            how = f"add a function with @lowers('{node.op_type}') to a file in withstand/graph/onnx_ops"
            raise InputError(f"There is no rule for {where}, so {how} or export the model without it.")
        self.builder.label = next(o for o in node.output if o)
        try:
            call = Call(node, self.opset, inputs, outputs)
            found = rule(self.builder, call)
            call.finish()
            return found
        except Unsupported as error:
            raise InputError(f"{where[0].upper()}{where[1:]} {error}, which is not supported.") from error
        except (RuntimeError, KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{where[0].upper()}{where[1:]} cannot be read with these inputs: {reason}") from error

    def _fold(self, node: "onnx.NodeProto") -> list[Tensor]:
        feeds = {n: value.numpy() for n in node.input if n and isinstance(value := self.values[n], Tensor)}
        what = f"{node.op_type} (node '{node.name or next(iter(node.output), '')}')"
        try:
            found = [_constant(value) for value in fold(node, feeds, self.proto.opset_import)]
        except Unsupported as error:
            raise InputError(f"The constant {what} of '{self.name}' {error}, so fold it first.") from error
        except Exception as error:
            raise InputError(
                f"The constant {what} of '{self.name}' cannot be computed, so fold it first: {error}"
            ) from error
        self.made += sum(value.numel() for value in found)
        if self.made > MOST_MADE:
            raise InputError(f"The constants that '{self.name}' computes hold more than {MOST_MADE:,} numbers.")
        return found

    def _result(self, name: str) -> Value:
        found = self.values.get(name)
        if not isinstance(found, Value):
            raise InputError(
                f"The output '{name}' of '{self.name}' does not depend on its input, so there is nothing to do."
            )
        return found


def _constant(array: np.ndarray) -> Tensor:
    """A constant as a tensor; types smaller than float32 become that."""
    if array.dtype.name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array))


def _works_in_half(proto: "onnx.ModelProto", name: str) -> str | None:
    """Why a network is not its graph of float32: values that depend on the input are rounded to half precision."""
    from onnx import TensorProto

    half = {int(TensorProto.FLOAT16): "float16", int(TensorProto.BFLOAT16): "bfloat16"}
    types = [one.type.tensor_type.elem_type for one in proto.graph.input]
    for node in proto.graph.node:
        types += [a.i for a in node.attribute if node.op_type == "Cast" and a.name == "to"]
    found = next((half[one] for one in types if one in half), None)
    return None if found is None else f"'{name}' computes in {found} and its graph in float32, {HINT}"


def _opset(proto: "onnx.ModelProto", name: str) -> int:
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), OLDEST)
    if not OLDEST <= version <= NEWEST:
        raise InputError(f"'{name}' uses operator set {version}, so export it with one of {OLDEST} to {NEWEST}.")
    return version


def _count(used: Sequence[bool]) -> int:
    """How many outputs, up to the last that is used."""
    return max((i + 1 for i, u in enumerate(used) if u), default=1)
