"""The page and the card of a training run: before and after side by side, from the records alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_page import HOSTILE, Page
from training_folders import make_training

from withstand.core.errors import InputError
from withstand.core.run_files import read_epoch_records, read_harden_record, read_run_record
from withstand.reporting.card import card, write_card
from withstand.reporting.harden import read_training, verdict
from withstand.reporting.page import report
from withstand.reporting.training_curves import training_curves


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_training(tmp_path_factory.mktemp("training") / "run")
    report(folder / "after")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(report(folder))


def test_every_figure_stands_before_and_after(page: Page) -> None:
    for line in (
        "clean 97.0 % 94.0 %",
        "PGD 8.5 % 84.0 % left by pgd:steps=100 alone",
        "attacked 7.0 % 83.0 %",
        "certified 0.0 % 60.0 %",
    ):
        assert line in page.text
    assert "at most 83.0 % robust, 60.0 % proved; before 97.0 % right when clean" in page.text
    assert "those of epoch 7, chosen by PGD accuracy on the validation samples" in page.text


def test_findings_have_words_numbers_and_samples(page: Page) -> None:
    for word in ("PASS", "WARN", "NOTE"):
        assert page.text.count(f"{word} ") >= 2
    assert "share 0.015 · queries 1,000" in page.text
    assert "samples 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 12 more" in page.text
    assert "warned of local linearity" in page.text


def test_a_failed_finding_is_told_at_the_top_and_removes_no_number(tmp_path: Path) -> None:
    page = Page(report(make_training(tmp_path / "run", masking="fail")))
    assert "masking suspected (black box)" in page.text
    assert page.text.index("masking suspected") < page.text.index("Accuracy over the radius")
    assert "attacked 7.0 % 83.0 %" in page.text


def test_curves_recipe_and_cost(page: Page) -> None:
    drawn = [a["aria-label"] for _, a in page.elements if a.get("role") == "img" and a.get("aria-label")]
    assert any("Training loss from 1.73 in epoch 1 to 0.454 in epoch 10" in str(text) for text in drawn)
    assert any("before, accuracy over the radius" in str(text) for text in drawn)
    for fact in ("beta 6", "612 MB", "47.5 s", "38,282", "1,200 to train, 200 to validate", "the guard lowered"):
        assert fact in page.text


@pytest.mark.parametrize(
    ("field", "legend", "told"),
    [("smoothed", "vote under noise", "accuracy of the vote"), ("interval", "proved by", "share proved by intervals")],
)
def test_the_figure_that_chooses_is_drawn_and_told(folder: Path, field: str, legend: str, told: str) -> None:
    training = read_training(folder)
    plain = training_curves(training)
    assert plain is not None
    assert legend not in plain.svg
    assert told not in plain.text
    epochs = [one.model_copy(update={field: one.epoch / 20}) for one in training.epochs]
    found = training_curves(replace(training, epochs=epochs))
    assert found is not None
    assert legend in found.svg
    assert f"{told} on validation 0.500 in the last" in found.text.replace("the vote under noise", "the vote")


def test_the_page_is_one_file_that_links_to_the_audits(page: Page) -> None:
    addresses = [a[key] or "" for _, a in page.elements for key in ("src", "href") if key in a]
    assert sorted(a for a in addresses if not a.startswith(("data:", "#"))) == ["after/report.html"]
    assert "default-src 'none'" in page.source


def test_a_run_that_is_not_done_renders(tmp_path: Path) -> None:
    page = Page(report(make_training(tmp_path / "run", state="running", epochs=3)))
    assert "3 of 10 epochs are done; it was interrupted, and the same" in page.text
    assert "not measured" in page.text
    none = Page(report(make_training(tmp_path / "new", state="running", epochs=0)))
    assert "No epoch is finished yet." in none.text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    page = Page(report(make_training(tmp_path / "run", model=HOSTILE)))
    assert "<script>alert" not in page.source
    assert "49" not in page.all("title")


def test_a_torn_line_is_passed_over_and_the_last_about_an_epoch_counts(folder: Path, tmp_path: Path) -> None:
    text = (folder / "epochs.jsonl").read_text()
    again = json.dumps(json.loads(text.splitlines()[0]) | {"loss": 9.0})
    (tmp_path / "epochs.jsonl").write_text(text + again + "\n" + '{"epoch": 11, "st')
    epochs = read_epoch_records(tmp_path / "epochs.jsonl")
    assert [one.epoch for one in epochs] == list(range(1, 11))
    assert epochs[0].loss == 9.0


def test_kinds_of_runs_are_told_apart(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another kind of run"):
        read_run_record(folder / "run.json")
    with pytest.raises(InputError, match="another kind of run; give the folder that `withstand harden` wrote"):
        read_harden_record(folder / "after" / "run.json")
    old = json.loads((folder / "run.json").read_text()) | {"version": 99}
    (tmp_path / "run.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match="version 99"):
        report(tmp_path)


def test_the_card_holds_what_its_reader_needs(folder: Path) -> None:
    text = write_card(folder).read_text(encoding="utf-8")
    assert text == card(read_training(folder))
    for part in ("## Architecture", "## Data and split", "## Recipe", "## Measured", "## Beware", "38,282 weights"):
        assert part in text
    assert "| attacked | 7.0 % | 83.0 % |" in text
    assert "withstand audit MODEL --data digits:test --threat linf:0.1 --limit 200 --seed 0" in text
    assert text.count("| objective |") == 1
    assert "warned of local linearity" in text
    assert "local linearity: Gradients turn." in text
    assert verdict(None) == "not looked at"


def test_the_card_says_where_no_command_names_the_held_out_samples(tmp_path: Path) -> None:
    training = read_training(make_training(tmp_path))
    assert training.record.split is not None
    apart = training.record.split.model_copy(update={"held": None})
    record = training.record.model_copy(update={"split": apart})
    text = card(replace(training, record=record))
    assert "HELD-OUT stands for these samples, which no DATA names." in text
    assert "--data HELD-OUT --threat" in text
    (tmp_path / "best.onnx").write_bytes(b"")
    assert "withstand audit best.onnx --data digits:test" in card(training)
