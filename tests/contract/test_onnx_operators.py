"""Both readers of ONNX against onnxruntime: every operator, attribute, optional input and meaning that they read.

An operator without cases fails, and so does an attribute or optional input that no case sets. What a reader refuses
though onnxruntime runs it is said in the case; what onnxruntime refuses both must refuse.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from contract.onnx_cases.case import CASES, Case, versions
from onnx import defs

from withstand.checker import folding, reading
from withstand.core.errors import InputError
from withstand.graph import onnx_ops
from withstand.graph.onnx_reader import read_onnx

for part in ("elementwise", "moves", "layers", "pools", "constants"):
    import_module(f"contract.onnx_cases.{part}")

DRAWS = 3
Function = Callable[[np.ndarray], np.ndarray]


def runtime(data: bytes) -> Function:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"x": x})[0])


def by_checker(data: bytes) -> Function:
    network = reading.read_network(data)
    return lambda x: network(x.reshape(1, -1))[0]


def by_reader(data: bytes) -> Function:
    model = read_onnx(data, check=False)
    kind = model.graph.dtype if model.graph is not None else torch.float32
    return lambda x: model(torch.from_numpy(x).to(kind).reshape(1, *model.input_shape)).numpy()[0]


READERS = {"checker": by_checker, "reader": by_reader}


def tables() -> dict[str, set[str]]:
    """The operators of each reader that may work on what depends on the network's input."""
    with pytest.raises(InputError):
        reading.read_network(b"")
    shapes = {"Shape", "Size"}
    still = folding.MOVES | folding.EXACT | folding.WHOLE
    return {"checker": set(reading.OPERATORS) | still | {"Shape"}, "reader": set(onnx_ops.table()) | shapes}


def truth(data: bytes, inputs: list[np.ndarray]) -> list[np.ndarray] | None:
    """What onnxruntime computes, None where it refuses."""
    try:
        run = runtime(data)
        return [run(x) for x in inputs]
    except Exception:
        return None


def fault(case: Case, opset: int, name: str, known: bool, constant: bool = False) -> str:
    """What a reader gets wrong, "" if nothing."""
    data = case.network(opset, constant)
    random = np.random.default_rng(2)
    inputs = [np.zeros(1, case.stored)] if constant else [case.sample(random) for _ in range(DRAWS)]
    theirs = truth(data, inputs)
    try:
        run = READERS[name](data)
    except InputError as error:
        wrong = known and not constant and theirs is not None and name not in case.refused
        return f"{name} refuses: {error}" if wrong else ""
    if theirs is None and not (constant and name == "reader"):
        return f"{name} reads what onnxruntime refuses"
    if name in case.refused and not constant:
        return f"{name} is said to refuse it"
    for x, right in zip(inputs, theirs or []):
        mine = run(x)
        if mine.shape != right.ravel().shape or not np.allclose(mine, right.ravel(), rtol=1e-4, atol=1e-4):
            return f"{name} gives {mine} and onnxruntime {right}"
    return ""


def faults(op: str, name: str, opsets: Callable[[Case], Any], constant: bool = False) -> list[str]:
    known = op in (set(reading.OPERATORS) | {"Shape"} if name == "checker" else tables()[name])
    cases = [c for c in CASES.get(op, []) if constant or not c.still]
    found = ((c, v, fault(c, v, name, known, constant)) for c in cases for v in opsets(c))
    return [f"{op} of {c.shape} with {c.given} in operator set {v}: {what}" for c, v, what in found if what]


@pytest.mark.parametrize("op", sorted(CASES))
@pytest.mark.parametrize("name", READERS)
def test_operators_mean_what_onnxruntime_computes(op, name):
    wrong = faults(op, name, Case.versions)
    assert not wrong, "\n".join(wrong)


FOLDED = folding.MOVES | folding.EXACT | folding.WHOLE | {"Shape"}
STILL = [("checker", op) for op in sorted(FOLDED)] + [("reader", op) for op in sorted(CASES)]


@pytest.mark.parametrize(("name", "op"), STILL)
def test_operators_on_constants_too(name, op):
    wrong = faults(op, name, lambda c: c.versions() if c.still else c.versions()[-1:], True)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", READERS)
def test_every_operator_has_cases_of_every_meaning(name):
    for op in sorted(tables()[name]):
        told = {v for case in CASES.get(op, []) for v in case.versions()}
        assert told == set(versions(op)), f"{op} has no case in operator sets {set(versions(op)) - told}"


@pytest.mark.parametrize("name", READERS)
def test_every_attribute_and_optional_input_has_a_case(name):
    for op in sorted(tables()[name]):
        for opset in versions(op):
            form = defs.get_schema(op, opset, "")
            optional = defs.OpSchema.FormalParameterOption.Optional
            wanted = set(form.attributes) | {i.name for i in form.inputs if i.option == optional}
            told = {s for case in CASES[op] if opset in case.versions() for s in case.settings(opset)}
            assert wanted <= told, f"no case of {op} in operator set {opset} sets {sorted(wanted - told)}"
