"""The curves of a training run: loss and accuracies on validation over the epochs."""

from withstand.core.harden_records import EpochRecord
from withstand.reporting.figures import CERTIFIED, INK, SMOOTHED, Figure, drawn
from withstand.reporting.harden import Training

ACCURACIES = (
    ("clean", "clean", INK, "o-"),
    ("pgd", "left by PGD", INK, "v--"),
    ("fgsm", "left by one step", INK, "s:"),
    ("interval", "proved by intervals", CERTIFIED, "^:"),
    ("smoothed", "vote under noise", SMOOTHED, "D-"),
)
"""Field of an epoch, its name, its colour and its form in the drawing."""

TOLD = (
    ("clean", "clean accuracy"),
    ("pgd", "PGD accuracy"),
    ("interval", "share proved by intervals"),
    ("smoothed", "accuracy of the vote under noise"),
)
"""Field of an epoch and its name in the sentence."""


def training_curves(training: Training) -> Figure | None:
    """Loss on the left, accuracies on validation samples on the right; None before the first epoch is done."""
    epochs = training.epochs
    if not epochs:
        return None
    from matplotlib.figure import Figure as Canvas

    drawing = Canvas(figsize=(9.2, 3.3), layout="constrained")
    left, right = drawing.subplots(1, 2)
    at = [one.epoch for one in epochs]
    left.plot(at, [one.loss for one in epochs], color=INK, linewidth=1.5, marker="o", markersize=3)
    left.set_title("training loss", fontsize=10, color=INK)
    left.set_ylim(bottom=0)
    for key, name, colour, form in ACCURACIES:
        points = [(one.epoch, share) for one in epochs if (share := getattr(one, key)) is not None]
        if points:
            right.plot(*zip(*points, strict=True), form, color=colour, linewidth=1.5, markersize=4)
            right.plot([], [], form, color=colour, label=name, markersize=4)
    right.set_title("accuracy on validation", fontsize=10, color=INK)
    right.set_ylim(-0.02, 1.04)
    right.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    if training.record.best_epoch is not None:
        right.axvline(training.record.best_epoch, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        right.annotate("best", (training.record.best_epoch, 0), (4, 4), textcoords="offset points", color=INK)
    drawing.legend(loc="outside lower right", ncols=len(ACCURACIES), frameon=False, labelcolor="linecolor", fontsize=9)
    for axes in (left, right):
        _dress(axes)
    return Figure(drawn(drawing), _sentence(epochs, training.record.best_epoch))


def _dress(axes) -> None:
    axes.set_xlabel("epoch", color=INK)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.tick_params(colors=INK, length=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK)


def _sentence(epochs: list[EpochRecord], best: int | None) -> str:
    first, last = epochs[0], epochs[-1]
    text = f"Training loss from {first.loss:.3g} in epoch {first.epoch} to {last.loss:.3g} in epoch {last.epoch}"
    for name, label in TOLD:
        if getattr(last, name) is not None:
            text += f"; {label} on validation {getattr(last, name):.3f} in the last"
    return text + (f"; the best weights are of epoch {best}." if best is not None else ".")
