"""The library's verbs answer arguments that cannot be meant with one sentence, as the command line does."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import withstand
from withstand.core.errors import InputError

NO_VERBS = {"bpda", "factory", "other", "out"}
VERBS = [name for name in withstand.__all__ if name not in NO_VERBS]

X, Y = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
NEEDED: dict[str, Any] = {
    "model": "digits-cnn",
    "data": (X, Y),
    "threat": "linf:0.01",
    "sigma": 0.1,
    "rho": 0.1,
    "run": "absent",
    "witness": "absent",
    "folder": "absent",
}


def call(verb: str, **given: Any) -> Any:
    """A verb with what it needs, and one odd argument."""
    function = getattr(withstand, verb)
    needed = {
        name: NEEDED[name] for name, one in inspect.signature(function).parameters.items() if one.default is one.empty
    }
    return function(**{**needed, **given})


def refused(verb: str, **given: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(verb, **given)
    text = str(caught.value)
    assert text.endswith((".", "?"))
    assert "\n" not in text
    return text


def parameters() -> list[tuple[str, str]]:
    return [(verb, name) for verb in VERBS for name in inspect.signature(getattr(withstand, verb)).parameters]


@pytest.mark.parametrize(("verb", "name"), parameters())
@pytest.mark.parametrize("odd", [object(), {"a": 1}, b"odd", {1}], ids=lambda odd: type(odd).__name__)
def test_no_argument_of_another_type_is_taken(verb: str, name: str, odd: Any, tmp_path: Path) -> None:
    refused(verb, **{name: odd})


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_checked(verb: str) -> None:
    assert hasattr(getattr(withstand, verb), "__wrapped__")


def having(name: str) -> list[str]:
    return [verb for verb, own in parameters() if own == name]


ODD: dict[str, list[Any]] = {
    "threat": [0.05, 8, ["linf:0.1"], ("linf", 0.1), "", "linf", torch.tensor(0.1)],
    "data": [3, (X,), (X, Y, Y), [X], (X, Y[:2]), (X, None), (None, Y), "absent.npz", "", [], (X[:0], Y[:0])],
    "model": [3, None, "", "absent.onnx", [torch.nn.Linear(2, 2)], torch.nn.Linear],
    "property": [3, ["argmax"], "argmin", "", torch.nn.Linear],
    "limit": [0, -1, 1.5, "3", True, np.float32(2), float("nan"), 10**30],
    "budget": [0, -1, -0.5, "soon", "", "-3s", float("nan"), ["10m"], True],
    "device": ["abacus", "", 3, None, ["cpu"], "cuda:99"],
    "seed": ["0", 1.5, [0], 10**30, True],
    "attacks": ["fgsm", "pgd:steps=3", [], (), [3], [None], "", ["fgms"], [["fgsm"]], None, torch.zeros(2)],
    "additions": ["awp", [3]],
    "loggers": ["tensorboard", [3]],
    "radii": ["0.1", 0.1, ["0.1"], [-1.0], [float("nan")], None, [float("inf")]],
    "sigmas": ["0.1", 0.1, [], [0.0], [-1.0]],
    "rho": ["0.1", [], -1.0, float("nan"), ["x"]],
    "gamma": ["0.1", 0.0, -1.0, ["x"]],
    "workers": [0, -1, "2", 1.5],
    "batch": [0, -1, "2"],
    "queries": [0, -1, "9", 1.5],
    "eot": [0, -1, "2"],
    "steps": [0, -1, "2"],
    "epochs": [0, -1, "2"],
    "draws": [0, -1, "2"],
    "n": [0, -1, "2"],
    "n0": [0, -1, "2"],
    "alpha": [0, 1, 2, "0.1", float("nan")],
    "delta": [0, 1, 2, "0.1"],
    "sigma": [0, -1, "0.1", float("nan"), float("inf")],
    "tolerance": [0, 1, -1, "0.1", float("nan")],
    "rate": [0, -1, "0.1"],
    "access": ["score", "", 3, None],
    "method": ["crwn", "", 3, None],
    "norm": ["l3", "", 2, None],
    "precision": ["fp8", 16, None],
    "recipe": ["trdes", 3, None],
    "plan": ["absent.json", 3, ["x"]],
    "surrogate": [3, "absent.onnx"],
    "initial": [3, "absent.onnx"],
    "train": [3, "absent.npz"],
    "test": [3, "absent.npz"],
    "unlabelled": [3, "absent.npz"],
    "double": ["yes", 2, None],
    "closest": ["yes", 2, None],
    "predict": ["yes", 2, None],
    "scratch": ["yes", 2],
    "resume": ["yes", 2],
    "certificates": [3, 0.5],
    "results": [3, ["r.csv"]],
    "witness": [3, None, "absent.npz"],
    "run": [3, None, "absent"],
    "folder": [3, None, "absent", []],
}
"""By parameter, values that cannot be meant, whatever verb has it."""


@pytest.mark.parametrize(("name", "verb"), [(name, verb) for name in ODD for verb in having(name)])
def test_values_that_cannot_be_meant(name: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    more = {"attacks": ["uap"]} if name == "train" else {}
    for odd in ODD[name]:
        if odd is None and inspect.signature(getattr(withstand, verb)).parameters[name].default is None:
            continue
        refused(verb, **{**more, name: odd})


def test_the_sentence_names_the_argument_and_what_it_must_be() -> None:
    assert refused("audit", threat=0.05) == "The argument threat must be text or a Threat, not 0.05; correct it."
    assert "a list of texts, as in ['pgd'], not 'fgsm'" in refused("attack", attacks="fgsm")
    assert "limit must be a whole number, not '3'" in refused("verify", limit="3")


@pytest.mark.parametrize("listed", [list, tuple, np.array])
def test_numbers_of_numpy_are_numbers(listed: Callable[..., Any]) -> None:
    limit: Any = np.int64(2)
    told = withstand.attack("digits-cnn", (X, Y), "linf:0.01", ["noise"], limit=limit, radii=listed([0.01, 0.02]))
    assert told.n == 2
    assert [point["radius"] for point in told.curve or []] == [0.01, 0.02]
