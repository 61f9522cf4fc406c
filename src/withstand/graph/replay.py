"""Runs an ONNX file in onnxruntime, one row a sample, without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from withstand.core.errors import InputError
from withstand.graph.onnx_reference import ReferenceSession, is_double

TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}


def exported_rows(input_shape: Sequence[Any], output_shape: Sequence[Any]) -> int | None:
    """How many samples one run of a file takes: 0 any number, k exactly k, None one sample without a batch axis.

    A fixed first size is the batch when it is 1, or when it is also the first size of the output.
    """
    if not input_shape:
        return None
    first = input_shape[0]
    if not isinstance(first, int) or first <= 0:
        return 0
    if first == 1 and len(input_shape) > 1:
        return 1
    return first if len(input_shape) > 1 and output_shape and output_shape[0] == first else None


class OnnxSession:
    """An ONNX network on batches x [B, *sample], giving float arrays [B, *outputs].

    source: a file or its bytes. threads: onnxruntime's threads inside one operator (1: the caller parallelises).
    A file exported for k samples is run in chunks of k, the last one filled up. A sample's scalar output becomes
    one output. A network of float64 with operators that onnxruntime has in float32 only is run by onnx's reference
    implementation; `runtime` says which it is. Errors: InputError where the file is no ONNX network of one input.
    """

    def __init__(self, source: bytes | str | Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 4
        given = source if isinstance(source, bytes) else str(source)
        self.runtime = "onnxruntime"
        try:
            self._session: Any = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            if "NOT_IMPLEMENTED" in str(error) and is_double(source):
                self._session, self.runtime = ReferenceSession(source), "onnx's reference implementation"
            else:
                what = "These bytes" if isinstance(source, bytes) else f"'{source}'"
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise InputError(f"{what} cannot be loaded as an ONNX network by onnxruntime: {reason}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1:
            names = ", ".join(i.name for i in inputs)
            raise InputError(f"The network has {len(inputs)} inputs ({names}), so give one that has a single input.")
        self.input_name, self.output_name = inputs[0].name, outputs[0].name
        self.dtype = TYPES.get(inputs[0].type, np.float32)
        self.rows = exported_rows(inputs[0].shape, outputs[0].shape)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Outputs [B, *outputs] of a batch x [B, *sample], computed in the file's own type."""
        x = np.ascontiguousarray(x, dtype=self.dtype)
        y = self._whole(x) if self.rows == 0 else None
        if y is None and self.rows is not None and self.rows > 1:
            y = self._chunks(x, self.rows)
        if y is None:
            y = np.stack([self._one(row) for row in x])
        return y[:, None] if y.ndim == 1 else y

    def _run(self, x: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self._session.run([self.output_name], {self.input_name: x})[0])
        except Exception as error:
            reason = str(error).splitlines()[0]
            shape = tuple(x.shape)
            raise InputError(f"onnxruntime cannot run the network on an input of shape {shape}: {reason}") from error

    def _whole(self, x: np.ndarray) -> np.ndarray | None:
        """One run, unless the network only pretends to take any batch (then None, from now on)."""
        if len(x) > 1:
            try:
                y = self._run(x)
            except InputError:
                y = None
            if y is not None and y.shape[:1] == (len(x),):
                return y
            self.rows = 1
        return None

    def _chunks(self, x: np.ndarray, rows: int) -> np.ndarray:
        missing = -len(x) % rows
        filled = np.concatenate([x, np.repeat(x[-1:], missing, 0)])
        parts = [self._run(filled[start : start + rows]) for start in range(0, len(filled), rows)]
        return np.concatenate(parts)[: len(x)]

    def _one(self, row: np.ndarray) -> np.ndarray:
        y = self._run(np.asarray(row) if self.rows is None else row[None])
        return y[0] if y.shape[:1] == (1,) else y
