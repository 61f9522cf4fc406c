"""Pages of attacks alone: a table of the attacks, and for each a gallery of what it found."""

from pathlib import Path

import pytest

import withstand
from withstand.reporting.run import read_run
from withstand.reporting.witnesses import galleries
from withstand.reporting.words import command, headline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three attacks on four samples, of which none finds what a strong one does."""
    folder = tmp_path_factory.mktemp("attacks") / "run"
    attacks = ["pgd:steps=10", "fgsm", "noise:draws=1"]
    withstand.attack("digits-cnn", "digits", "linf:0.15", attacks, limit=4, radii=[0.05, 0.15], queries=90, out=folder)
    return folder


def test_each_attack_has_its_gallery(folder: Path) -> None:
    run = read_run(folder)
    shown = galleries(run)
    assert [gallery.attack for gallery in shown] == run.record.plan.attacks
    for gallery in shown:
        assert gallery.refuted == sum(s.attacks[gallery.attack].refuted for s in run.samples) == len(gallery.shown)
        assert all(item.sample.method == gallery.attack for item in gallery.shown)
        assert all(
            [name for name, _ in item.pictures] == ["clean", "adversarial", "difference"] for item in gallery.shown
        )
    assert shown[0].refuted > 0


def test_the_page_shows_them_and_loads_nothing(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert 'id="galleries"' in page
    assert page.count("<img ") == page.count('<img src="data:image/png;base64,')
    assert "fgsm</code> refuted" in page


def test_words_of_an_attack(folder: Path) -> None:
    run = read_run(folder)
    assert headline(run).endswith("nothing was proved.")
    told = command(run.record.plan)
    assert told.startswith(
        "withstand attack digits-cnn --data digits --threat linf:0.15 --attack pgd:steps=10 --attack"
    )
    assert "--queries 90 --radii 0.05,0.15 --limit 4" in told
