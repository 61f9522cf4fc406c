"""Train against attacks in a loop of your own, then see what the network withstands.

Run it with: python examples/harden_in_a_loop.py
"""

import torch
from torch.utils.data import DataLoader, TensorDataset

from withstand.builtin.models import architecture
from withstand.hardening.objective import build_objective
from withstand.hardening.standing import standing
from withstand.hardening.state import State
from withstand.io.data import load_data

THREAT = "linf:0.1"


def main() -> tuple[torch.nn.Module, float]:
    """Train on the digits for some epochs; the model, and the share of held-out images on which it withstands PGD."""
    torch.manual_seed(0)
    train, test = load_data("digits:train"), load_data("digits").head(200)
    model = architecture()
    objective, state = build_objective("fast"), State(THREAT)
    objective.prepare(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(8):
        for x, y in DataLoader(TensorDataset(train.x, train.y), batch_size=128):
            optimiser.zero_grad()
            loss = objective(model, x, y, state)
            loss.value.backward()
            optimiser.step()
            state.advance()
        print(f"epoch {epoch}: loss {float(loss.value.detach()):.3f}")
    robust = float(standing(model, test.x, test.y, THREAT).robust.double().mean())
    print(f"robust accuracy {robust:.3f}")
    return model, robust


if __name__ == "__main__":
    main()
