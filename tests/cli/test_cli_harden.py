"""`withstand harden` from the command line: every recipe, what it prints and leaves, going on, and wrong input."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import Command, Done

from withstand.auditing.masking.check import masking
from withstand.builtin.digits import digits_split
from withstand.core.records import Check
from withstand.core.registry import components
from withstand.core.run_files import read_epoch_records, read_harden_record

KEYS = ("clean_accuracy", "attacked_accuracy", "certified_accuracy", "epochs", "seconds", "cpu_seconds")
FIXED = (*KEYS, "peak_memory_mb", "best", "last", "masking")
QUICK = {
    "self-training": "self-training:steps=2",
    "smooth-adv": "smooth-adv:steps=1,draws=2",
    "free": "free:replays=2",
    "natural": "natural",
}
THREATS = {"linf": "linf:0.03", "l2": "l2:0.3", "l1": "l1:1"}


@pytest.fixture(autouse=True)
def brief(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings on masked gradients by few steps and queries, and none but in one test: they have tests of their own."""
    told = partial(masking, steps=2, queries=2)
    if request.node.name != "test_what_a_run_leaves":
        told = partial(lambda *question, **options: [Check(name="none", outcome="note", sentence="Not looked at.")])
    monkeypatch.setattr("withstand.auditing.harden_run.masking", told)


def often(kind: str, *names: str) -> list[object]:
    """All components of a kind, those that are not named here marked as slow."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in components(kind)]


@pytest.fixture
def few(withstand: Command) -> str:
    """A file of 150 digits to train on and 20 to test on."""
    train, test = digits_split()
    (x, y), (x_test, y_test) = ((part.x.numpy(), part.y.numpy()) for part in (train, test))
    np.savez("few.npz", x_train=x[:150], y_train=y[:150], x_test=x_test[:20], y_test=y_test[:20])
    return "few.npz"


def harden(withstand: Command, data: str, *options: object, threat: str = "linf:0.03") -> Done:
    command = ("harden", "digits-cnn", "--data", data, "--threat", threat, "--epochs", 1, "--limit", 4, "--out", "hard")
    return withstand(*command, *options)


@pytest.mark.parametrize("name", often("objective", "ibp"))
def test_every_recipe(name: str, few: str, withstand: Command) -> None:
    norms = getattr(components("objective")[name], "norms", ())
    threat = THREATS[norms[0] if norms else "linf"]
    done = harden(withstand, few, "--recipe", QUICK.get(name, name), "--json", threat=threat)
    assert done.code == 0, done.err
    told = done.json
    assert set(FIXED) <= set(told)
    assert told["certified_accuracy"] <= told["attacked_accuracy"] <= told["clean_accuracy"]
    assert told["epochs"] == 1
    assert Path(told["best"]).is_file()
    assert Path(told["last"]).is_file()
    assert told["masking"]


@pytest.mark.parametrize("name", often("addition", "awp"))
def test_every_addition(name: str, few: str, withstand: Command) -> None:
    done = harden(withstand, few, "--recipe", "fast", "--with", name, "--json")
    assert done.code == 0, done.err
    assert done.json["recipe"]["additions"] == f"('{name}',)"


def test_what_a_run_leaves(few: str, withstand: Command) -> None:
    done = harden(withstand, few, "--recipe", "pgd:steps=2", "--epochs", 2)
    assert done.code == 0, done.err
    folder = Path("hard")
    held = {path.name for path in folder.iterdir()}
    wanted = {"run.json", "epochs.jsonl", "checkpoint.pt", "report.html", "card.md", "before", "after"}
    assert wanted | {"best.onnx", "last.onnx", "best.safetensors", "last.safetensors"} <= held
    record = read_harden_record(folder / "run.json")
    assert (record.state, record.epochs_done, record.epochs) == ("complete", 2, 2)
    assert record.split is not None
    assert (record.split.train, record.split.validation, record.split.test) == (135, 15, 20)
    assert [one.epoch for one in read_epoch_records(folder / "epochs.jsonl")] == [1, 2]
    assert "Source:" in done.err
    assert "epoch 2:" in done.err
    assert "Gradients of the best weights: " in done.out
    assert "before" in done.out
    assert "best" in done.out
    assert record.after is not None
    assert len(record.after.masking) > 10
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_the_hardened_model_is_audited_by_its_file(few: str, withstand: Command) -> None:
    told = harden(withstand, few, "--recipe", "fast", "--json").json
    again = withstand("audit", "hard/best.onnx", "--data", "few.npz[x_test,y_test]", "--threat", "linf:0.03",
                      "--limit", 4, "--json").json  # fmt: skip
    assert again["clean_accuracy"] == told["clean_accuracy"]
    assert again["certified_accuracy"] >= told["certified_accuracy"]


def test_a_finished_run_is_not_done_again(few: str, withstand: Command) -> None:
    first = harden(withstand, few, "--recipe", "fast", "--json").json
    refused = harden(withstand, few, "--recipe", "fast")
    assert refused.code == 2
    assert "--resume" in refused.complaint
    again = harden(withstand, few, "--recipe", "fast", "--resume", "--json")
    assert again.code == 0, again.err
    assert {key: again.json[key] for key in KEYS} == {key: first[key] for key in KEYS}
    other = harden(withstand, few, "--recipe", "pgd:steps=2", "--resume")
    assert other.code == 2
    assert "another objective" in other.complaint


def test_without_audits_pgd_alone_judges_and_a_later_run_may_add_them(few: str, withstand: Command) -> None:
    told = harden(withstand, few, "--recipe", "fast", "--no-audit", "--json").json
    assert (told["attacked_accuracy"], told["certified_accuracy"], told["masking"]) == (None, None, [])
    assert 0 <= told["after"]["pgd_accuracy"] <= told["clean_accuracy"]
    assert not Path("hard/before").exists()
    assert not Path("hard/after").exists()
    record = read_harden_record(Path("hard/run.json"))
    assert record.command is not None
    assert "--no-audit" in record.command
    assert "not measured" in Path("hard/report.html").read_text()
    later = harden(withstand, few, "--recipe", "fast", "--resume", "--json").json
    assert later["clean_accuracy"] == told["clean_accuracy"]
    assert later["attacked_accuracy"] is not None
    assert Path("hard/before/run.json").is_file()


def test_a_training_takes_the_audit_before_of_one_beside_it(
    few: str, withstand: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from withstand.auditing import harden_run

    judged: list[str] = []

    def stand(*question: object) -> object:
        judged.append(Path(str(question[-1])).name)
        return asked(*question)  # type: ignore[arg-type]

    asked = harden_run.stand
    monkeypatch.setattr(harden_run, "stand", stand)
    first = harden(withstand, few, "--recipe", "fast", "--json").json
    other = harden(withstand, few, "--recipe", "fast:step=1", "--out", "other", "--json")
    assert judged == ["before", "after", "after"]
    assert "the audit before is that of" in other.err
    assert other.json["before"] == first["before"]
    assert (Path("other/before/samples.jsonl").read_bytes()) == Path("hard/before/samples.jsonl").read_bytes()
    harden(withstand, few, "--recipe", "fast", "--out", "third", "--seed", 1, threat="linf:0.02")
    assert judged[3:] == ["before", "after"]


def test_going_on_after_an_interruption_is_the_same_training(
    few: str, withstand: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from withstand.hardening.trainer import Trainer

    whole = harden(withstand, few, "--recipe", "pgd:steps=2", "--epochs", 3, "--json").json
    weights = Path("hard/last.safetensors").read_bytes()
    Path("hard").rename("whole")
    end = Trainer._end_epoch

    def interrupted(self: Trainer, clock: object) -> None:
        end(self, clock)  # type: ignore[arg-type]
        if self.progress.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_end_epoch", interrupted)
    assert harden(withstand, few, "--recipe", "pgd:steps=2", "--epochs", 3).code == 130
    assert read_harden_record(Path("hard/run.json")).state == "partial"
    monkeypatch.setattr(Trainer, "_end_epoch", end)
    rest = harden(withstand, few, "--recipe", "pgd:steps=2", "--epochs", 3, "--resume", "--json").json
    assert Path("hard/last.safetensors").read_bytes() == weights
    assert rest["attacked_accuracy"] == whole["attacked_accuracy"]


def test_additions_join_those_of_a_recipe_in_memory(few: str, tmp_path: Path) -> None:
    from withstand import harden
    from withstand.hardening.recipe import Recipe

    recipe = Recipe("fast", additions=("weight-l1",), epochs=1)
    done = harden("digits-cnn", few, "linf:0.03", recipe=recipe, additions=["awp"], limit=2, out=tmp_path / "run")
    assert done.recipe["additions"] == "('weight-l1', 'awp')"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--recipe", "trade"), "did you mean 'trades'"),
        (("--recipe", "trades:bta=3"), "did you mean 'beta'"),
        (("--with", "aw"), "addition"),
        (("--precision", "8"), "precision"),
        (("--recipe", "ibp", "--threat", "l2:0.5"), "linf"),
        (("--unlabelled", "few.npz[x_test,y_test]", "--recipe", "pgd"), "label"),
        (("--rate", "1e30"), "lower"),
        (("--rate", "nan"), "must be a number"),
        (("--rate", "-1"), "positive"),
        (("--with", "awp", "--with", "awp:gamma=1"), "twice"),
        (("--unlabelled", "few.npz[x_tset]", "--recipe", "trades"), "did you mean 'x_test'"),
    ],
)
def test_wrong_input_is_one_sentence(options: tuple[str, ...], word: str, few: str, withstand: Command) -> None:
    done = harden(withstand, few, *options)
    assert done.code == 2, done.err
    assert word in done.complaint
    assert done.out == ""


def test_labels_out_of_range(withstand: Command) -> None:
    train, _ = digits_split()
    np.savez("odd.npz", x=train.x[:60].numpy(), y=train.y[:60].numpy() + 4)
    done = harden(withstand, "odd.npz")
    assert done.code == 2
    assert "outside 0 to 9" in done.complaint


def test_inputs_outside_the_domain_are_refused_wherever_they_are(withstand: Command) -> None:
    train, test = digits_split()
    np.savez("loud.npz", x=train.x[:60].numpy() * 255, y=train.y[:60].numpy())
    np.savez("fine.npz", x=test.x[:60].numpy(), y=test.y[:60].numpy())
    for data, options in (("loud.npz", ("--test", "fine.npz")), ("fine.npz", ("--unlabelled", "loud.npz[x]"))):
        done = harden(withstand, data, "--recipe", "trades", *options)
        assert done.code == 2
        assert "Inputs of loud.npz" in done.complaint
        assert "outside the threat's domain" in done.complaint


def test_inputs_without_labels_come_from_a_file_that_holds_nothing_else(few: str, withstand: Command) -> None:
    np.savez("more.npz", images=digits_split()[0].x[200:260].numpy())
    done = harden(withstand, few, "--recipe", "trades:steps=1", "--unlabelled", "more.npz")
    assert done.code == 0, done.err
    assert read_harden_record(Path("hard/run.json")).split.unlabelled == 60  # type: ignore[union-attr]


def test_what_differs_from_the_training_of_a_folder_is_named(few: str, withstand: Command) -> None:
    assert harden(withstand, few, "--recipe", "fast").code == 0
    for options, word in (
        (("--batch", 64), "another batch (128, not 64)"),
        (("--precision", "bf16"), "another precision (fp32, not bf16)"),
        (("--limit", 5), "another limit (4, not 5)"),
        (("--with", "awp"), "another additions"),
    ):
        done = harden(withstand, few, "--recipe", "fast", "--resume", *options)
        assert done.code == 2
        assert word in done.complaint
    held = dict(np.load(few))
    np.savez(few, **{**held, "y_train": held["y_train"][::-1]})
    Path("hard/checkpoint.pt").touch()
    done = harden(withstand, few, "--recipe", "fast", "--resume")
    assert done.code == 2
    assert "with training data" in done.complaint


def test_a_loss_that_is_no_number_keeps_the_last_good_weights(few: str, withstand: Command) -> None:
    done = harden(withstand, few, "--recipe", "natural", "--rate", "1e18", "--epochs", 3)
    assert done.code == 2
    assert "lower" in done.complaint
    record = json.loads(Path("hard/run.json").read_text())
    assert record["state"] == "stopped"


@pytest.mark.slow
def test_networks_that_are_only_a_file_train(few: str, withstand: Command) -> None:
    first = harden(withstand, few, "--recipe", "fast", "--json").json
    Path("hard").rename("first")
    done = withstand("harden", "first/best.onnx", "--data", few, "--threat", "linf:0.03", "--recipe", "fast",
                     "--epochs", 1, "--limit", 4, "--out", "second", "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert math.isclose(done.json["before"]["clean_accuracy"], first["clean_accuracy"])
