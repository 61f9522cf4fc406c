"""The registry: building from text, near misses, and what a component must have."""

import dataclasses

import pytest

from withstand.attacks.pgd import PGD
from withstand.core import registry
from withstand.core.errors import InputError
from withstand.core.registry import build, components, describe, name_of, register


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_TABLE", dict(registry._TABLE))


def test_modules_of_the_folder_are_found() -> None:
    assert {"noise", "fgsm", "pgd", "apgd", "square"} <= components("attack").keys()


@pytest.mark.parametrize("text", ["pgd", "pgd:steps=7", "pgd:step=0.5,loss=ce,start=False", "square:queries=9"])
def test_texts_read_back(text: str) -> None:
    made = build("attack", text)
    assert build("attack", describe(made)) == made
    assert describe(made).partition(":")[0] == name_of(made) == name_of(type(made))


def test_values_get_their_types() -> None:
    assert build("attack", " pgd : steps = 7 , step=0.5 ".replace(" :", ":")) == PGD(steps=7, step=0.5)
    assert build("attack", "pgd:start=false").start is False
    assert describe(PGD(steps=7)) == "pgd:steps=7"
    assert describe(PGD()) == "pgd"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pdg", "There is no attack 'pdg'; did you mean 'pgd'?"),
        ("zzz", "There is no attack 'zzz'; choose one of alma, apgd, "),
        ("pgd:step_count=3", "has no parameter 'step_count'; "),
        ("pgd:restart=3", "did you mean 'restarts'?"),
        ("pgd:steps", "write parameters as name=value, not 'steps'"),
        ("pgd:steps=many", "steps='many' does not fit: Input should be a valid integer"),
        ("pgd:steps=0", "steps='0' does not fit: Input should be greater than or equal to 1"),
        ("pgd:step=-1", "step='-1' does not fit"),
        ("pgd:loss=mse", "loss='mse' does not fit: Input should be 'margin', 'ce', 'dlr' or 'smooth'"),
    ],
)
def test_errors_name_the_near_miss_or_the_value(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build("attack", text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_components_are_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PGD().steps = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        PGD(3)  # type: ignore[misc]


@pytest.mark.usefixtures("scratch")
def test_what_is_missing_fails_at_import() -> None:
    class NoDoc: ...

    class NoReference:
        """Does something."""

    class NoDefault:
        """Does something (arXiv:1234.56789)."""

        steps: int

    for cls, sentence in ((NoDoc, "needs a docstring"), (NoReference, "needs a reference"), (NoDefault, "a default")):
        with pytest.raises(TypeError, match=sentence):
            register("attack")(cls)

    class Pgd:
        """Does something (Reference: none)."""

    with pytest.raises(ValueError, match="'pgd' is defined twice"):
        register("attack")(Pgd)
