"""Train against attacks with Fabric, Lightning's thin layer for devices and precision.

The attack looks at the module itself, without gradients of weights, their exchange or reduced precision; the loss goes
through Fabric's wrapper.

Run it with: python examples/harden_in_fabric.py
"""

import torch
from lightning.fabric import Fabric
from torch.utils.data import DataLoader, TensorDataset

from withstand.builtin.models import architecture
from withstand.hardening.objective import build_objective
from withstand.hardening.standing import standing
from withstand.hardening.state import State
from withstand.io.data import load_data

THREAT = "linf:0.1"


def main(precision: str = "32-true", epochs: int = 8) -> tuple[torch.nn.Module, float]:
    """Train on the digits for some epochs; the model, and the share of held-out images on which it withstands PGD."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]
    torch.manual_seed(0)
    train, test = load_data("digits:train"), load_data("digits").head(200)
    module = architecture()
    objective, state = build_objective("fast"), State(THREAT)
    objective.prepare(module)
    model, optimiser = fabric.setup(module, torch.optim.Adam(module.parameters(), lr=3e-3))
    loader = fabric.setup_dataloaders(DataLoader(TensorDataset(train.x, train.y), batch_size=128))
    for _ in range(epochs):
        for x, y in loader:
            optimiser.zero_grad()
            at = objective.find(module, x, y, state)
            fabric.backward(objective.loss(model, x, at, y, state).value)
            optimiser.step()
            state.advance()
    robust = float(standing(module, test.x, test.y, THREAT).robust.double().mean())
    print(f"robust accuracy {robust:.3f}")
    return module, robust


if __name__ == "__main__":
    main()
