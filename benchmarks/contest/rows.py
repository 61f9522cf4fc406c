"""The rows: work, ours, others, and what we must show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from contest.own import Audited, Own, Work
from contest.peers import adv_lib, art, art_universal, cleverhans_hopskipjump, foolbox, torchattacks
from contest.task import Task

Figure = Literal["robust", "median", "success", "fooling"]


class Contender(Protocol):
    """Somebody who attacks: `prepare` does everything but the attack, which is timed."""

    @property
    def name(self) -> str: ...

    @property
    def library(self) -> str: ...

    def prepare(self, task: Task, seed: int) -> Work: ...


@dataclass(frozen=True)
class Target:
    """What we must show: a figure at least as good as `value`, in at most `seconds` of CPU, and in at most `share` of
    the time of the row's first other contender."""

    value: float
    seconds: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table. figure: what of the score is compared; lower is better but for shares of success."""

    key: str
    model: str
    threat: str
    count: int
    figure: Figure
    ours: Contender
    others: Sequence[Contender] = ()
    target: Target | None = None

    @property
    def higher_is_better(self) -> bool:
        """Whether the figure is a share of success."""
        return self.figure in ("success", "fooling")


AUTOATTACK = torchattacks("AutoAttack standard", "AutoAttack", version="standard", seed=0)
APGD_T = torchattacks("APGD-T 100", "APGDT", steps=100)
STANDARD = Own("standard")
CERTIFIED = "mnist-cnn-small-cert"


def hopskipjump(key: str, queries: int, steps: int, value: float) -> Row:
    """HopSkipJump with so many queries; peers that count steps get as many as come near to them."""
    others = (
        cleverhans_hopskipjump(f"HopSkipJump, {steps} steps", num_iterations=steps),
        art(f"HopSkipJump, {steps} steps", "HopSkipJump", max_iter=steps),
        foolbox(f"HopSkipJump, {steps} steps", "HopSkipJumpAttack", steps=steps),
    )
    ours = Own(f"hopskipjump:queries={queries}", nearest=True, queries=queries)
    return Row(key, "mnist-plain", "l2:2", 20, "median", ours, others, Target(value))


ROWS = (
    Row(
        "worst-plain",
        "mnist-plain",
        "linf:0.1",
        200,
        "robust",
        Own("worst"),
        (STANDARD, AUTOATTACK),
        Target(0.165, share=0.1),
    ),
    Row(
        "worst-pgd",
        "mnist-pgd-0.3",
        "linf:0.3",
        200,
        "robust",
        Own("worst"),
        (STANDARD, AUTOATTACK, APGD_T),
        Target(0.86, share=0.1),
    ),
    Row(
        "worst-l2",
        "mnist-pgd-0.3",
        "l2:2",
        100,
        "robust",
        Own("worst"),
        (adv_lib("ALMA-100, thresholded", "alma", "distance", num_steps=100), APGD_T),
        Target(0.35),
    ),
    Row("worst-cert", CERTIFIED, "linf:0.3", 50, "robust", Own("worst"), (STANDARD, AUTOATTACK), Target(0.94)),
    Row(
        "audit-cert",
        CERTIFIED,
        "linf:0.3",
        50,
        "robust",
        Audited(CERTIFIED),
        (STANDARD, AUTOATTACK),
        Target(0.94, share=0.05),
    ),
    Row(
        "pgd",
        "mnist-pgd-0.3",
        "linf:0.3",
        200,
        "robust",
        Own("pgd:steps=100"),
        (
            torchattacks("PGD-100", "PGD", steps=100, alpha=0.01),
            foolbox("PGD-100", "LinfPGD", at_radius=True, steps=100, abs_stepsize=0.01),
        ),
        Target(0.915, share=1.0),
    ),
    Row(
        "apgd-ce",
        "mnist-pgd-0.3",
        "linf:0.3",
        200,
        "robust",
        Own("apgd:loss=ce"),
        (torchattacks("APGD-CE 100", "APGD", steps=100),),
        Target(0.885, share=1.0),
    ),
    Row(
        "nearest-l2",
        "mnist-plain",
        "l2:2",
        100,
        "median",
        Own("nearest", nearest=True),
        (adv_lib("ALMA-1000", "alma", "distance", num_steps=1000), adv_lib("DDN-100", "ddn", steps=100, levels=None)),
        Target(1.126, seconds=4.0),
    ),
    Row(
        "cw",
        "mnist-plain",
        "l2:2",
        100,
        "median",
        Own("cw", nearest=True),
        (
            foolbox("C&W, 9 x 200", "L2CarliniWagnerAttack", steps=200, stepsize=0.05),
            adv_lib("C&W, 9 x 200", "carlini_wagner_l2", max_iterations=200, learning_rate=0.05),
        ),
        Target(1.158),
    ),
    Row(
        "nearest-linf",
        "mnist-plain",
        "linf:0.1",
        100,
        "median",
        Own("nearest:walks=1", nearest=True),
        (adv_lib("FAB-100", "fab", "norm"), adv_lib("FMN-100", "fmn", "norm", steps=100)),
        Target(0.0785, seconds=2.0),
    ),
    Row(
        "nearest-l1",
        "mnist-plain",
        "l1:8",
        50,
        "median",
        Own("nearest:walks=1", nearest=True),
        (adv_lib("FAB-100", "fab", "norm"),),
        Target(6.32),
    ),
    Row(
        "nearest-l0",
        "mnist-plain",
        "l0:10",
        50,
        "median",
        Own("greedy-pixels", nearest=True),
        (adv_lib("VFGA", "vfga", targeted=False), adv_lib("sigma-zero", "sigma_zero")),
        Target(7.0),
    ),
    Row(
        "square",
        "mnist-plain",
        "linf:0.1",
        100,
        "robust",
        Own("square:queries=1000", queries=1000),
        (
            torchattacks("Square", "Square", n_queries=1000),
            art("Square", "SquareAttack", norm="inf", max_iter=1000, eps=True),
        ),
        Target(0.28, seconds=3.8),
    ),
    hopskipjump("hopskipjump-1200", 1200, 6, 1.82),
    hopskipjump("hopskipjump-5500", 5500, 17, 1.61),
    Row("zoo", "mnist-plain", "l2:2", 9, "success", Own("zoo", nearest=True), (art("ZOO", "ZooAttack"),)),
    Row("lbfgs", "mnist-plain", "l2:2", 100, "success", Own("lbfgs", nearest=True)),
    Row("autozoom", "mnist-plain", "l2:2", 20, "success", Own("autozoom", nearest=True)),
    Row("stadv", "mnist-plain", "flow:0.3", 50, "success", Own("stadv", nearest=True)),
    Row(
        "uap",
        "mnist-plain",
        "linf:0.2",
        1000,
        "fooling",
        Own("uap"),
        (art_universal("UAP, fitted on 200", "UniversalPerturbation", 200, norm="inf", eps=True, max_iter=2),),
        Target(0.5),
    ),
    Row("guap", "mnist-plain", "flow+linf:0.1,0.1", 1000, "fooling", Own("guap")),
)
