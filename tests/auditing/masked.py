"""Networks that hide their gradients, or may seem to, around one that does not."""

import torch
from torch import Tensor, nn


class _Swallow(torch.autograd.Function):
    """The identity, with a gradient of zero."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return torch.zeros_like(grad)


class GradientKiller(nn.Module):
    """Swallows the gradient on its way back."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(_Swallow.apply(x))


class Rounding(nn.Module):
    """Rounds its input to a few levels."""

    def __init__(self, net: nn.Module, levels: int = 10) -> None:
        super().__init__()
        self.net, self.levels = net, levels

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x * self.levels).round() / self.levels)


class Confident(nn.Module):
    """Logits so large that the cross-entropy and its gradient are zero in float32, as training that rewards
    confidence makes them."""

    def __init__(self, net: nn.Module, factor: float = 100.0) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.net(x)


class Noisy(nn.Module):
    """Adds noise to its input, anew each time."""

    def __init__(self, net: nn.Module, sigma: float = 0.02) -> None:
        super().__init__()
        self.net, self.sigma = net, sigma

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + self.sigma * torch.randn_like(x))


class Adaptive(nn.Module):
    """Walks its input uphill on its own answer before it answers, through autograd or through torch.func."""

    def __init__(self, net: nn.Module, functional: bool = False) -> None:
        super().__init__()
        self.net, self.functional = net, functional

    def confidence(self, x: Tensor) -> Tensor:
        return self.net(x).amax(1).sum()

    def forward(self, x: Tensor) -> Tensor:
        if self.functional:
            return self.net(x + 0.02 * torch.func.grad(self.confidence)(x).sign())
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            uphill = torch.autograd.grad(self.confidence(leaf), leaf)[0]
        return self.net(x + 0.02 * uphill.sign())


class WrongSlope(nn.Module):
    """A staircase whose gradient is that of a line that goes the other way."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        exact = (x * 10).round() / 10
        return self.net((exact + x).detach() - x)
