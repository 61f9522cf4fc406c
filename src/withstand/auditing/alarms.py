"""Alarms: signs that attacks or proofs were hindered, so that a run's numbers may mislead.

After Carlini et al. 2019 (arXiv:1902.06705) and Athalye et al. 2018 (arXiv:1802.00420). Everything is read off the
records, so an old run raises the same alarms again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from withstand.core.records import Alarm, Check, SampleRecord


@dataclass(frozen=True)
class _Sign:
    """An alarm raised when more than `limit` of the samples looked at carry a flag.

    among: flags that say a sample was looked at (empty: all samples were). least: so many samples it takes at least.
    """

    name: str
    flag: str
    limit: float
    sentence: str
    among: tuple[str, ...] = ()
    least: int = 1


LUCK = 0.05
"""Another attack finds up to such a share of what is left by luck, on any model; more is a sign."""

DEAD_SHARE = 0.1
"""Attacks walk blind if more than this share of the samples has gradients that are zero."""

_SIGNS = (
    _Sign(
        "black box beats white box",
        "black-box",
        LUCK,
        "An attack that sees only scores refuted samples that the gradient attacks could not: gradients may be masked.",
        among=("black-box", "black-box-miss"),
        least=3,
    ),
    _Sign(
        "one step beats many",
        "one-step",
        LUCK,
        "One gradient step refuted samples that many steps could not: the iterated attacks were misled.",
        among=("one-step", "one-step-miss"),
        least=3,
    ),
    _Sign(
        "larger radius does not hurt",
        "wide-miss",
        0.25,
        "Gradient attacks fail even when the whole domain is allowed, where every model can be broken.",
        among=("wide-miss", "wide-hit"),
    ),
    _Sign(
        "zero gradients", "dead", DEAD_SHARE, "Most gradients of these samples are exactly zero: attacks walk blind."
    ),
    _Sign("NaN gradients", "non-finite", 0.0, "Gradients hold NaN or infinity: attacks walk blind where they do."),
    _Sign(
        "loss not flat",
        "still-falling",
        0.05,
        "The margin was still falling when the last gradient attack ended: more steps would find more.",
    ),
    _Sign(
        "torch and onnxruntime disagree",
        "replay-disagrees",
        0.01,
        "Inputs that fool the model in torch do not fool it in onnxruntime, so they do not count as witnesses.",
    ),
)

_CHECKS = {
    "determinism": "non-determinism",
    "logits": "softmax before the loss",
    "small changes": "quantised input",
    "torch against onnxruntime": "torch and onnxruntime disagree",
    "module and graph": "the graph is another function",
}
"""Checks of the doctor whose warning is an alarm, and the alarm's name."""

UNKNOWN = 0.25
"""Too many samples are unknown if it is more than this share of all."""


def raise_alarms(samples: Sequence[SampleRecord], checks: Sequence[Check], *, proofs: bool = True) -> list[Alarm]:
    """Every alarm that the samples and the doctor's checks give cause for, worst kinds first. proofs: the run looked
    for them."""
    found = [alarm for sign in _SIGNS if (alarm := _weigh(sign, samples)) is not None]
    found += [
        Alarm(name=_CHECKS[check.name], sentence=check.sentence)
        for check in checks
        if check.outcome == "warn" and check.name in _CHECKS
    ]
    unknown = [s.id for s in samples if s.status == "unknown"]
    if proofs and samples and len(unknown) > UNKNOWN * len(samples):
        sentence = "Many samples are neither proved nor refuted: the two jaws are too far apart to conclude from."
        found.append(
            Alarm(name="too many unknown", sentence=sentence, share=len(unknown) / len(samples), samples=unknown)
        )
    return found


def _weigh(sign: _Sign, samples: Sequence[SampleRecord]) -> Alarm | None:
    looked = [s for s in samples if not sign.among or not set(sign.among).isdisjoint(s.flags)]
    hit = [s.id for s in looked if sign.flag in s.flags]
    if len(hit) < sign.least or len(hit) <= sign.limit * len(looked):
        return None
    return Alarm(name=sign.name, sentence=sign.sentence, share=len(hit) / len(looked), samples=hit)
