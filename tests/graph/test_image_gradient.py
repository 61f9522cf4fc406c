"""First layers passed backward by a product and a fold, against the general gradient and against finite differences."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.graph.image_gradient import ImageConvolution, pays
from withstand.graph.ops import conv

WINDOWS = st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), WINDOWS, WINDOWS, st.integers(0, 2**20))
@settings(max_examples=60, deadline=None)
def test_the_gradient_is_that_of_the_general_convolution(channels, height, width, rows, columns, seed):
    """Every kernel, stride, padding and dilation, each axis on its own."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(2, channels, 11, 9, generator=draw, dtype=torch.float64).requires_grad_()
    weight = torch.rand(5, channels, height, width, generator=draw, dtype=torch.float64)
    bias = torch.rand(5, generator=draw, dtype=torch.float64)
    stride, padding, dilation = zip(rows, columns, strict=True)
    ours = ImageConvolution.apply(x, weight, bias, stride, padding, dilation)
    general = F.conv2d(x, weight, bias, stride, padding, dilation)
    assert torch.equal(ours, general)
    pull = torch.rand(general.shape, generator=draw, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((ours * pull).sum(), x), torch.autograd.grad((general * pull).sum(), x), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_the_gradient_can_be_derived_again():
    """Bounds differentiate the gradient of an affine map."""
    x = torch.rand(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, 1, 3, 3, dtype=torch.float64)

    def cubed(x):
        return ImageConvolution.apply(x, weight, None, (1, 1), (1, 1), (1, 1)) ** 3

    assert torch.autograd.gradcheck(cubed, x)
    assert torch.autograd.gradgradcheck(cubed, x)


@pytest.mark.parametrize(
    ("shape", "learned", "groups", "expected"),
    [
        ((16, 1, 4, 4), False, 1, True),
        ((16, 3, 4, 4), False, 1, True),
        ((16, 3, 4, 4), True, 1, False),
        ((16, 4, 3, 3), False, 1, False),
        ((6, 3, 5, 5), False, 1, False),
        ((6, 1, 3, 3), False, 3, False),
        ((8, 1, 3), False, 1, False),
    ],
)
def test_it_is_for_constant_layers_on_few_channels(shape, learned, groups, expected):
    """Learned layers need the gradient of their weights; many channels are faster the general way."""
    weight = torch.rand(shape).requires_grad_(learned)
    x = torch.rand(2, shape[1] * groups, *(9 for _ in shape[2:])).requires_grad_()
    assert pays(x, weight, None, groups) is expected
    assert not pays(x.detach(), weight, None, groups)
    window = (1,) * (len(shape) - 2)
    made = conv(x, weight, None, stride=window, padding=window, dilation=window, groups=groups)
    assert (type(made.grad_fn).__name__ == "ImageConvolutionBackward") is expected
