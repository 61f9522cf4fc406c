"""Values that cannot be meant get one sentence, questions about a class leave out the class itself, and the nearest
violations replay."""

import numpy as np
import pytest
import torch
from lab import PLAN, Lab
from torch import nn

import withstand
from withstand.cli import main
from withstand.core.errors import InputError
from withstand.core.registry import build, components
from withstand.core.threat_text import parse_threat
from withstand.graph.replay import OnnxSession
from withstand.io.models import load_model
from withstand.reporting.run import read_run
from withstand.reporting.words import headline


@pytest.mark.parametrize(
    ("threat", "word"),
    [
        ("linf:8", "already the whole domain"),
        ("linf:1.01", "already the whole domain"),
        ("l2:8.1", "already the whole domain"),
        ("l1:65", "already the whole domain"),
        ("linf:300[0,255]", "already the whole domain"),
        ("l0:1000", "already the whole domain"),
        ("patch:9x9", "8x8 pixels"),
        ("patch:9x2", "8x8 pixels"),
        ("patch:1x9", "8x8 pixels"),
        ("spatial:200,1", "180 degrees"),
        ("spatial:10,9", "8 pixels"),
        ("flow:100", "8 pixels"),
        ("flow+linf:0.1,2", "whole domain"),
        ("linf:nan", "NaN"),
        ("linf:inf", "radius"),
        ("linf:-0.1", "radius"),
    ],
)
def test_a_threat_that_cannot_be_meant_gets_a_sentence(
    threat: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["audit", "--limit", "1"], ["attack", "--attack", "pgd:steps=1", "--limit", "1"]):
        assert main([verb[0], "digits-cnn", "--data", "digits", "--threat", threat, *verb[1:]]) == 2
        told = capsys.readouterr().err
        assert word in told
        assert "Traceback" not in told


@pytest.mark.parametrize("threat", ["linf:1", "linf:2[-1,1]", "l2:8", "l1:64", "l0:64", "patch:8x8", "spatial:180,8"])
def test_the_whole_domain_may_be_meant(threat: str) -> None:
    assert parse_threat(threat).oversize(torch.zeros(1, 1, 8, 8)) is None


def numeric() -> list[tuple[str, str]]:
    """Every parameter of an attack or verifier that is a number."""
    return [
        (f"{kind}/{name}", field)
        for kind in ("attack", "universal", "verifier")
        for name, cls in components(kind).items()
        for field, value in vars(cls()).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


@pytest.mark.parametrize(("method", "field"), numeric(), ids=str)
def test_no_number_of_a_method_may_be_infinite_or_negative(method: str, field: str) -> None:
    kind, name = method.split("/")
    for value in ("inf", "-inf", "nan", "-1"):
        with pytest.raises(InputError, match=f"{field}|cannot be meant"):
            build(kind, f"{name}:{field}={value}")


@pytest.mark.parametrize("words", [["--queries", "0"], ["--attack", "pgd:restarts=0"], ["--attack", "pgd:step=inf"]])
def test_numbers_of_the_command_line_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", "digits-cnn", "--data", "digits", "--threat", "linf:0.1", "--limit", "1", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_samples_of_the_class_itself_are_no_question(lab: Lab, tmp_path) -> None:
    """Under `not-class:3` a three that is told so is neither wrong nor robust: it is left out, and the accuracy as
    classes go stands beside."""
    others = lab.y != 3
    right = lab.module(lab.x).argmax(1)
    data = (lab.x, lab.y)
    found = withstand.attack(lab.module, data, "linf:0.06", ["pgd:steps=5"], property="not-class:3")
    assert found.n == int(others.sum()) < len(lab.y)
    assert found.clean_accuracy == float((right[others] != 3).double().mean())
    told = withstand.audit(
        lab.module,
        data,
        threat="linf:0.06",
        plan=PLAN.model_copy(update={"curve": []}),
        out=tmp_path,
        property="not-class:3",
    )
    assert told.n == int(others.sum())
    assert any("are of class 3 itself and are left out" in check.sentence for check in told.checks)
    run = read_run(tmp_path)
    assert {sample.id for sample in run.samples} == set(others.nonzero().squeeze(1).tolist())
    own = float((right[others] == lab.y[others]).double().mean())
    assert f"When clean, {100 * own:.1f}\N{NO-BREAK SPACE}% of them are told their own class." in headline(run)
    assert withstand.check(tmp_path, lab.module, data).failures == []
    with pytest.raises(InputError, match="All samples are of class 3 itself"):
        withstand.attack(lab.module, (lab.x[~others], lab.y[~others]), "linf:0.1", ["fgsm"], property="not-class:3")


def test_the_nearest_violations_replay() -> None:
    """In float32, by onnxruntime, as all other witnesses do."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3)).eval().requires_grad_(False)
    x = torch.rand(12, 4)
    net[2].bias -= net(x).mean(0)
    y = net(x).argmax(1)
    session = OnnxSession(load_model(net, (4,)).onnx_bytes())
    for norm in ("linf", "l1"):
        found = withstand.closest(net, (x, y), f"{norm}:0.1")
        assert sum(one.witness is not None for one in found.samples) > 6
        for one, x0, label in zip(found.samples, x, y, strict=True):
            if one.witness is None:
                assert one.distance == np.inf
                continue
            assert one.witness.dtype == torch.float32
            logits = torch.from_numpy(np.asarray(session(one.witness.numpy())))[0]
            assert logits[label] <= logits[torch.arange(3) != label].max()
            order = torch.inf if norm == "linf" else 1
            far = float(torch.linalg.vector_norm((one.witness - x0).double().flatten(), order))
            assert one.bound <= one.distance == pytest.approx(far, rel=1e-5)
            assert one.distance <= one.bound * 1.02 or not one.exact
