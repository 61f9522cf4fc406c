"""The closed set of operations a graph may hold, each with its torch function.

Frontends (ONNX, torch.export) lower to these; bounds, the executor and the ONNX writer read them. All functions are
batch first and act on every sample alone. Shapes in attributes never include the batch axis; axes in attributes do
(axis 0 is the batch, so every `dim` here is >= 1).
"""

import builtins
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from withstand.graph.image_gradient import ImageConvolution, pays


@dataclass(frozen=True)
class Op:
    """An operation: its torch function and how it treats its non-constant inputs.

    `linear`: affine in each activation input while the others are constants, and jointly affine for add, sub, concat.
    `monotone`: non-decreasing in every element of every activation input.
    """

    run: Callable[..., Tensor]
    linear: bool = False
    monotone: bool = False


OPS: dict[str, Op] = {}


def op(name: str, *, linear: bool = False, monotone: bool = False) -> Callable:
    """Register a torch function as the operation `name`."""

    def add(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        OPS[name] = Op(run, linear, monotone)
        return run

    return add


# ---------------------------------------------------------------- affine maps with weights


@op("linear", linear=True)
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [B, ..., in] times weight [out, in] transposed, plus bias [out]."""
    return F.linear(x, weight, bias)


@op("conv", linear=True)
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
) -> Tensor:
    """1-d to 3-d convolution; `padding` is symmetric, one number a spatial axis."""
    if pays(x, weight, bias, groups):
        return ImageConvolution.apply(x, weight, bias, stride, padding, dilation)
    run = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
    return run(x, weight, bias, stride, padding, dilation, groups)


@op("conv_transpose", linear=True)
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
) -> Tensor:
    """1-d to 3-d transposed convolution; weight [in, out / groups, *kernel]."""
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.dim() - 3]
    return run(x, weight, bias, stride, padding, output_padding, groups, dilation)


# ---------------------------------------------------------------- arithmetic of two values (numpy broadcasting)

op("add", linear=True, monotone=True)(torch.add)
op("sub", linear=True)(torch.sub)
op("mul", linear=True)(torch.mul)
op("div", linear=True)(torch.div)
op("matmul", linear=True)(torch.matmul)
op("max", monotone=True)(torch.maximum)
op("min", monotone=True)(torch.minimum)


@op("where", linear=True, monotone=True)
def where(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where the constant boolean mask is true, else b."""
    return torch.where(mask, a, b)


# ---------------------------------------------------------------- one value, element by element

op("neg", linear=True)(torch.neg)
op("relu", monotone=True)(torch.relu)
op("sigmoid", monotone=True)(torch.sigmoid)
op("tanh", monotone=True)(torch.tanh)
op("erf", monotone=True)(torch.erf)
op("exp", monotone=True)(torch.exp)
op("log", monotone=True)(torch.log)
op("sqrt", monotone=True)(torch.sqrt)
op("reciprocal")(torch.reciprocal)
op("abs")(torch.abs)
op("sign", monotone=True)(torch.sign)
op("sin")(torch.sin)
op("cos")(torch.cos)
op("silu")(F.silu)
op("floor", monotone=True)(torch.floor)
op("round", monotone=True)(torch.round)


@op("softplus", monotone=True)
def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), which beyond 40 is x itself in float64 too (torch's own 20 leaves a jump of 2e-9)."""
    return F.softplus(x, threshold=40)


@op("leaky_relu", monotone=True)
def leaky_relu(x: Tensor, *, slope: float) -> Tensor:
    """x where positive, else slope * x (0 <= slope <= 1)."""
    return F.leaky_relu(x, slope)


@op("elu", monotone=True)
def elu(x: Tensor, *, alpha: float) -> Tensor:
    """x where positive, else alpha * (exp(x) - 1) (alpha >= 0)."""
    return F.elu(x, alpha)


@op("gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit, exact (`none`) or by its `tanh` formula."""
    return F.gelu(x, approximate=approximate)


@op("pow")
def pow(x: Tensor, *, exponent: float) -> Tensor:
    """x to a constant power."""
    return torch.pow(x, exponent)


@op("clip", monotone=True)
def clip(x: Tensor, *, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """x limited to [low, high]."""
    return torch.clamp(x, low, high)


# ---------------------------------------------------------------- pooling and reductions


@op("max_pool", monotone=True)
def max_pool(
    x: Tensor,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool = False,
) -> Tensor:
    """1-d to 3-d max pooling."""
    run = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return run(x, kernel, stride, padding, dilation, ceil_mode)


@op("avg_pool", linear=True, monotone=True)
def avg_pool(
    x: Tensor,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """1-d to 3-d average pooling."""
    run = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    return run(x, kernel, stride, padding, ceil_mode, count_include_pad)


@op("mean", linear=True, monotone=True)
def mean(x: Tensor, *, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """Mean over axes (never the batch)."""
    return x.mean(dims, keepdim)


@op("sum", linear=True, monotone=True)
def sum(x: Tensor, *, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """Sum over axes (never the batch)."""
    return x.sum(dims, keepdim)


@op("softmax")
def softmax(x: Tensor, *, dim: int) -> Tensor:
    """Softmax along one axis."""
    return torch.softmax(x, dim)


@op("log_softmax")
def log_softmax(x: Tensor, *, dim: int) -> Tensor:
    """Log-softmax along one axis."""
    return torch.log_softmax(x, dim)


# ---------------------------------------------------------------- moving elements about


@op("reshape", linear=True, monotone=True)
def reshape(x: Tensor, *, shape: tuple[int, ...]) -> Tensor:
    """Each sample in another shape (flatten, squeeze and unsqueeze lower to this)."""
    return x.reshape(x.shape[0], *shape)


@op("transpose", linear=True, monotone=True)
def transpose(x: Tensor, *, perm: tuple[int, ...]) -> Tensor:
    """Axes in another order; perm[0] is 0."""
    return x.permute(perm)


@op("concat", linear=True, monotone=True)
def concat(*parts: Tensor, dim: int) -> Tensor:
    """Values in a row along one axis; a constant part has batch 1 and is repeated."""
    rows = {p.shape[0] for p in parts}
    batch = 0 if 0 in rows else max(rows)
    return torch.cat([p.expand(batch, *p.shape[1:]) for p in parts], dim)


@op("slice", linear=True, monotone=True)
def slice(x: Tensor, *, dim: int, start: int, stop: int, step: int = 1) -> Tensor:
    """x[start:stop:step] along one axis, 0 <= start < stop <= size, step >= 1."""
    index = [builtins.slice(None)] * x.dim()
    index[dim] = builtins.slice(start, stop, step)
    return x[tuple(index)]


@op("gather", linear=True, monotone=True)
def gather(x: Tensor, index: Tensor, *, dim: int) -> Tensor:
    """Elements of one axis picked by a constant integer tensor, whose shape replaces that axis (numpy's take)."""
    picked = x.index_select(dim, index.reshape(-1))
    return picked.reshape(*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])


@op("pad", linear=True, monotone=True)
def pad(x: Tensor, *, pads: tuple[int, ...], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Padding as torch.nn.functional.pad orders it (last axis first); mode constant, reflect or replicate."""
    return F.pad(x, pads, mode, value) if mode == "constant" else F.pad(x, pads, mode)


@op("expand", linear=True, monotone=True)
def expand(x: Tensor, *, shape: tuple[int, ...]) -> Tensor:
    """Each sample broadcast to a larger shape of the same rank or a higher one."""
    x = x.reshape(x.shape[0], *(1,) * (len(shape) - x.dim() + 1), *x.shape[1:])
    return x.expand(x.shape[0], *shape)
