"""What an epoch of PGD training costs beside the k + 1 forward and backward passes of the bare model it consists of, in
CPU seconds of one thread, with a plain loop and, where it is installed, ART's trainer as peers, all in one run.

python benchmarks/harden_step.py [--steps 7] [--rounds 5]
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.hardening.loader import Loader
from withstand.hardening.objective import build_objective
from withstand.hardening.state import State
from withstand.hardening.trainer import Trainer

ROWS, BATCH, RADIUS, STEP, RATE = 1280, 128, 0.3, 0.25, 1e-3


def network() -> nn.Sequential:
    """Two convolutions and two linear layers for 28 x 28 grey images; 166,406 weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def bare(x: Tensor, y: Tensor, steps: int, by_inputs: bool) -> Callable[[], None]:
    """So many passes forward and backward and one more, on every batch: nothing of an attack, nothing of a loop. The
    last one has the gradients of the weights, the others these too, or those of the inputs alone."""
    module = network()

    def epoch() -> None:
        for index in range(0, len(x), BATCH):
            at, label = x[index : index + BATCH].clone().requires_grad_(by_inputs), y[index : index + BATCH]
            for number in range(steps + 1):
                module.zero_grad(set_to_none=True)
                loss = F.cross_entropy(module(at if number < steps else at.detach()), label)
                if by_inputs and number < steps:
                    torch.autograd.grad(loss, at)
                else:
                    loss.backward()

    return epoch


def plain(x: Tensor, y: Tensor, steps: int) -> Callable[[], None]:
    """PGD training as papers' code writes it."""
    module = network()
    optimiser = torch.optim.Adam(module.parameters(), RATE)

    def epoch() -> None:
        for rows in torch.randperm(len(x)).split(BATCH):
            clean, label = x[rows], y[rows]
            at = (clean + torch.empty_like(clean).uniform_(-RADIUS, RADIUS)).clamp(0, 1)
            for _ in range(steps):
                at.requires_grad_()
                (slope,) = torch.autograd.grad(F.cross_entropy(module(at), label), at)
                at = at.detach() + STEP * RADIUS * slope.sign()
                at = torch.min(torch.max(at, clean - RADIUS), clean + RADIUS).clamp(0, 1)
            optimiser.zero_grad()
            F.cross_entropy(module(at), label).backward()
            optimiser.step()

    return epoch


def ours(x: Tensor, y: Tensor, steps: int) -> Callable[[], None]:
    """An epoch of the trainer, without validation."""

    def epoch() -> None:
        module = network()
        objective = build_objective(f"pgd:steps={steps},step={STEP}")
        optimiser = torch.optim.Adam(module.parameters(), RATE)
        Trainer(module, objective, State(f"linf:{RADIUS}"), optimiser, Loader(x, y, BATCH), 1).fit()

    return epoch


def art(x: Tensor, y: Tensor, steps: int) -> Callable[[], None] | None:
    """An epoch of ART's AdversarialTrainerMadryPGD, or None where ART is not installed."""
    try:
        from art.defences.trainer import AdversarialTrainerMadryPGD  # type: ignore[import-not-found]
        from art.estimators.classification import PyTorchClassifier  # type: ignore[import-not-found]
    except ImportError:
        return None
    module = network()
    classifier = PyTorchClassifier(
        module, nn.CrossEntropyLoss(), (1, 28, 28), 10, torch.optim.Adam(module.parameters(), RATE), clip_values=(0, 1)
    )
    trainer = AdversarialTrainerMadryPGD(
        classifier, nb_epochs=1, batch_size=BATCH, eps=RADIUS, eps_step=STEP * RADIUS, max_iter=steps
    )
    inputs, labels = x.numpy(), F.one_hot(y, 10).float().numpy()
    return lambda: trainer.fit(inputs, labels)


def main() -> None:
    """Print a line a way: the least seconds of its rounds, and their ratio to those of the first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    x, y = torch.rand(ROWS, 1, 28, 28), torch.randint(10, (ROWS,))
    ways = {
        f"{given.steps + 1} bare passes": bare(x, y, given.steps, by_inputs=False),
        "the same, all but one by inputs alone": bare(x, y, given.steps, by_inputs=True),
        "withstand": ours(x, y, given.steps),
        "plain loop": plain(x, y, given.steps),
        "ART": art(x, y, given.steps),
    }
    known = {name: epoch for name, epoch in ways.items() if epoch is not None}
    for epoch in known.values():
        epoch()
    rounds = [{name: timed(epoch) for name, epoch in known.items()} for _ in range(given.rounds)]
    first = min(took[next(iter(known))] for took in rounds)
    for name in known:
        least = min(took[name] for took in rounds)
        print(f"{name:38} {least:6.2f} s  {least / first:.2f}")


def timed(epoch: Callable[[], None]) -> float:
    """CPU seconds of an epoch."""
    begin = time.process_time()
    epoch()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
