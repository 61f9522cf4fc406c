"""Whether a training has lost its robustness from one epoch to the next; the advice where its loss is no number."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from withstand.core.harden_records import EpochRecord


@dataclass(frozen=True)
class Guard:
    """Watches for catastrophic overfitting: the model learns to withstand one step and nothing else (Wong et al. 2020,
    arXiv:2001.03994).

    gap: FGSM leaves by so much more accuracy than PGD, and PGD leaves no more than at its best. drop: PGD leaves by so
    much less than an epoch before, the paper's 0.2. then: end the training, or go back to the best weights and go on.
    """

    gap: float = 0.2
    drop: float = 0.2
    then: Literal["stop", "back"] = "stop"

    def finding(self, now: EpochRecord, previous: float | None, best: float | None) -> str | None:
        """What is wrong after an epoch, as a sentence, or None. previous, best: the PGD accuracy an epoch before and
        the best one before this epoch, at the whole radius (None: there is none)."""
        if now.pgd is None or previous is None or best is None:
            return None
        if previous - now.pgd > self.drop:
            return (
                f"Catastrophic overfitting in epoch {now.epoch}: the accuracy under PGD fell from {previous:.3f} to "
                f"{now.pgd:.3f}."
            )
        if now.fgsm is not None and now.fgsm - now.pgd > self.gap and now.pgd <= best:
            return (
                f"Catastrophic overfitting in epoch {now.epoch}: FGSM leaves {now.fgsm:.3f} and PGD only {now.pgd:.3f}."
            )
        return None


def advice(
    what: str,
    epoch: int,
    batch: int,
    rate: float,
    clip: float | None,
    precision: str,
    attacks: bool,
    checkpoint: Path | None,
) -> str:
    """The sentence for a training whose numbers became NaN or infinite: where, and what to lower. epoch, batch: from 0.
    attacks: the objective has a radius. checkpoint: the last good one."""
    others = ["let the radius grow more slowly"] * attacks
    others += ["clip the gradients" if clip is None else f"clip the gradients below {clip:g}"]
    others += [f"leave the precision {precision}"] * (precision != "fp32")
    kept = f"; the last good checkpoint is {checkpoint}" if checkpoint is not None and checkpoint.exists() else ""
    return (
        f"In epoch {epoch + 1}, batch {batch + 1}, {what}: lower the learning rate (it is {rate:.3g}), or "
        f"{' or '.join(others)}{kept}."
    )
