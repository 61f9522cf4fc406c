"""Audit a torch model of your own from Python: train a small classifier on points of two rings, then ask what
it withstands.

Run it with: python examples/audit_own_model.py
"""

import torch
from torch import nn

import withstand


def two_rings(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [n, 2] in [0, 1] on an inner and an outer ring around the middle, and the ring of each [n]."""
    ring = torch.arange(n) % 2
    angle = torch.rand(n) * 2 * torch.pi
    radius = 0.15 + 0.25 * ring + 0.02 * torch.randn(n)
    return 0.5 + radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1), ring


def train(x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """A small network fitted to the points."""
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(400):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model


def main() -> None:
    """Train, audit at one radius, and print both ends."""
    torch.manual_seed(0)
    model = train(*two_rings(400))
    result = withstand.audit(model, two_rings(100), threat="linf:0.03", out="runs/two-rings")
    print(f"right on clean points: {result.clean_accuracy:.0%}")
    print(f"{result.certified_accuracy:.0%} <= robust <= {result.attacked_accuracy:.0%}")
    print("report:", withstand.report(result.run_dir))


if __name__ == "__main__":
    main()
