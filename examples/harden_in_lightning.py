"""Train against attacks in Lightning, with robust accuracy as a metric of its validation.

Lightning validates in inference mode, in which no gradient of an input can be taken; `standing` takes care of that.

Run it with: python examples/harden_in_lightning.py
"""

import warnings

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from withstand.builtin.models import architecture
from withstand.hardening.objective import build_objective
from withstand.hardening.standing import standing
from withstand.hardening.state import State
from withstand.io.data import load_data

THREAT = "linf:0.1"
BATCH = 100
"""Samples of a validation step."""


class Hardened(lightning.LightningModule):
    """A digits classifier whose training step is an objective of withstand."""

    def __init__(self) -> None:
        super().__init__()
        self.model = architecture()
        self.objective, self.state = build_objective("fast"), State(THREAT)
        self.objective.prepare(self.model)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """The objective's loss; the attack runs inside."""
        x, y = batch
        loss = self.objective(self.model, x, y, self.state)
        self.log_dict(dict(loss.logs))
        return loss.value

    def on_train_batch_end(self, *_: object) -> None:
        """Count the batch: schedules and random numbers of objectives go by it."""
        self.state.advance()

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        """Clean and robust accuracy."""
        x, y = batch
        found = standing(self.model, x, y, THREAT, ids=range(BATCH * index, BATCH * index + len(x)))
        self.log("clean", found.clean.float().mean(), on_epoch=True)
        self.log("robust", found.robust.float().mean(), on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.model.parameters(), lr=3e-3)


def main() -> tuple[Hardened, float]:
    """Train on the digits for some epochs; the module, and its robust accuracy on held-out images."""
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    torch.manual_seed(0)
    train, test = load_data("digits:train"), load_data("digits").head(200)
    trainer = lightning.Trainer(
        max_epochs=8,
        check_val_every_n_epoch=4,
        accelerator="cpu",
        devices=1,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Hardened()
    trainer.fit(
        module,
        DataLoader(TensorDataset(train.x, train.y), batch_size=128),
        DataLoader(TensorDataset(test.x, test.y), batch_size=BATCH),
    )
    robust = float(trainer.callback_metrics["robust"])
    print(f"robust accuracy {robust:.3f}")
    return module, robust


if __name__ == "__main__":
    main()
