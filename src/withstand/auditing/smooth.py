"""Randomised smoothing of a model over a data set: predictions and certified radii, each a statistic and no proof."""

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from withstand.auditing.folder import Folder
from withstand.auditing.frames import frame
from withstand.auditing.ledger import name_of_source
from withstand.auditing.question import pose
from withstand.auditing.smoothing_run import Listener, SmoothingRun
from withstand.core.arguments import checked
from withstand.core.balls import L2
from withstand.core.errors import InputError
from withstand.core.smoothing_records import SmoothedSample, SmoothingPlan, SmoothingSummary
from withstand.core.smoothing_tally import certified_accuracy
from withstand.io.data import DataLike
from withstand.io.models import ModelLike
from withstand.smoothing.smoothed import Smoothing
from withstand.smoothing.votes import BATCH


class Smoothed(SmoothingSummary):
    """What is known of a smoothed model on n samples: the numbers of its summary and how they came about. All of it is
    statistics: see `statement`.

    sigma, draws, first_draws, alpha: see `smooth`. state: "complete", or "partial" if the run was interrupted. samples:
    in the order of their numbers.
    """

    model_config = ConfigDict(frozen=True)

    sigma: float
    draws: int
    first_draws: int
    alpha: float
    state: str
    run_dir: Path | None
    samples: list[SmoothedSample] = Field(repr=False)

    def certified_accuracy(self, radius: float) -> float:
        """The share of all samples that are right and whose certified radius is larger than this one."""
        return certified_accuracy(self.samples, radius)

    @property
    def statement(self) -> str:
        """What may be said of all samples, in sentences."""
        what = "prediction" if self.cap is None else "radius"
        sure = f"{1 - self.alpha:g}"
        union = f"at least {self.together:.4g}" if self.together > 0 else "not bounded at all"
        return (
            f"A statistical certificate of the smoothed model, not of the model below it, and no proof: each {what} "
            f"holds with a chance of at least {sure}. The chance that all {self.n} hold together is {union} by the "
            f"union bound; with a chance of at least {sure} no more than {self.false_at_most} fail."
        )

    def to_frame(self) -> Any:
        """The samples as a pandas.DataFrame, one row each. Raises InputError where pandas is not installed."""
        return frame(self.samples)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values, with the statement."""
        return {"kind": "statistical certificate", "statement": self.statement, **json.loads(self.model_dump_json())}


@checked
def smooth(
    model: ModelLike,
    data: DataLike,
    *,
    sigma: float,
    n: int = 100_000,
    n0: int = 100,
    alpha: float = 0.001,
    radii: Sequence[float] = (),
    predict: bool = False,
    limit: int | None = None,
    out: str | PathLike[str] | None = None,
    seed: int = 0,
    batch: int = BATCH,
    device: str = "cpu",
    progress: Listener | None = None,
) -> Smoothed:
    """Certify, for every sample, the l2 radius within which the smoothed model keeps its class; by statistics.

    The smoothed model names the class that `model` names most often when Gaussian noise is added to the input. For
    each sample n0 draws guess this class, n fresh draws bound its probability p from below by Clopper and Pearson, and
    the radius is sigma times the normal quantile of the bound; where that is below one half, it abstains (CERTIFY of
    Cohen et al. 2019, arXiv:1902.02918, whose n, n0 and alpha are the defaults). It says nothing of `model` itself, and
    leaves out the rounding of floating-point numbers. For a good radius `model` must have been trained with such noise.

    sigma: standard deviation of the noise, in the units of the data; it is added to the input and nothing is clipped.
    alpha: the chance at most that one sample's answer is false. radii: where the curve is told (unless given: round
    ones up to the cap). predict: name classes without radii, from n draws, and abstain where a two-sided binomial test
    of the two classes ahead does not tell them apart (PREDICT). out: a run folder with a report; one that holds samples
    of the same question is resumed. batch: noisy copies in a forward pass. progress: called as samples are settled.

    Raises InputError when an input cannot be used, the model is no classifier, or the folder holds another run.

    >>> import torch, withstand
    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> net.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> found = withstand.smooth(net, (torch.tensor([[0.8, 0.4]]), torch.tensor([0])), sigma=0.2, n=10_000)
    >>> 0.25 < found.samples[0].radius <= 0.4 / 2**0.5  # the distance of the line where the model changes its class
    True
    """
    smoothing = Smoothing(sigma, n, n0, alpha, seed, batch)
    plan = SmoothingPlan(
        mode="predict" if predict else "certify",
        model=name_of_source(model),
        data=name_of_source(data),
        limit=limit,
        sigma=sigma,
        draws=n,
        first_draws=n0,
        alpha=alpha,
        seed=seed,
        radii=_checked_radii(radii, predict),
    )
    everywhere = L2(radius=math.inf, domain=(-math.inf, math.inf))
    with (
        pose(model, data, everywhere, limit=limit, device=device) as question,
        nullcontext() if out is None else Folder(out) as folder,
    ):
        run = SmoothingRun(plan, smoothing, question, folder, progress or (lambda event: None))
        return _result(plan, run.go(), run)


def _result(plan: SmoothingPlan, summary: SmoothingSummary, run: SmoothingRun) -> Smoothed:
    return Smoothed(
        **dict(summary),
        sigma=plan.sigma,
        draws=plan.draws,
        first_draws=plan.first_draws,
        alpha=plan.alpha,
        state=run.record.state,
        run_dir=None if run.folder is None else run.folder.path,
        samples=run.ordered,
    )


def _checked_radii(radii: Sequence[float], predict: bool) -> list[float]:
    if predict and radii:
        raise InputError("Predictions have no radii; leave out the radii, or the option to predict.")
    if not all(0 <= radius < math.inf for radius in radii):
        raise InputError("The radii of a curve must be zero or positive numbers; correct them.")
    return [float(radius) for radius in radii]
