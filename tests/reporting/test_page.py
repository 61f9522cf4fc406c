"""The page of a run: its numbers are the record's, its text is escaped, it refers to nothing outside itself."""

import json
import re
import shutil
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from run_folders import make_run

import withstand
from withstand.core.errors import InputError
from withstand.core.records import Alarm, Counts
from withstand.reporting.page import report
from withstand.reporting.run import read_run
from withstand.reporting.witnesses import worst
from withstand.reporting.words import headline

COUNTS = Counts(proved=931, refuted=41, unknown=16, invalid=12)
SENTENCE = (
    "At linf 0.1, at most 94.7 % of 1,000 samples survive, at least 93.1 % surely do: "
    "931 proved, 41 refuted, 16 unknown, 12 wrong when clean."
)
HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\'&{{ 7*7 }}'
OLD = Path(__file__).parent / "data" / "run-version-1"


class Page(HTMLParser):
    """What a test asks of a page: its elements, its text, its data."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.source = file.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.pieces).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside != "style":
            self.pieces.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(report(make_run(tmp_path_factory.mktemp("plain") / "run", COUNTS)))


def test_the_verb_is_the_function() -> None:
    assert withstand.report is report


def test_the_headline_and_the_range_are_the_record(plain: Page) -> None:
    assert SENTENCE in plain.text
    low, high = "93.1 % surely survive (certified: proved)", "94.7 % survive at most (attacked: nothing broke them)"
    assert f"{low} ≤ true share that survives ≤ {high}" in plain.text
    assert "between 91.1 % and 96.7 % with 95 % confidence" in plain.text
    for fact in ("931 proved", "16 unknown", "41 refuted", "12 wrong when clean", "123,456", "12.2 s", "56.1 s"):
        assert fact in plain.text


def test_the_table_holds_every_sample(plain: Page) -> None:
    data = json.loads(plain.scripts[0])
    assert [row[0] for row in data["rows"]] == list(range(1000))
    assert sum(row[1] == "refuted" for row in data["rows"]) == 41
    assert all(len(row) == len(data["columns"]) for row in data["rows"])


def test_the_page_refers_to_nothing_outside(plain: Page) -> None:
    assert "//" not in re.sub(r"(base64,|sha256-)[A-Za-z0-9+/=]+", "", plain.source)
    addresses = [a[key] or "" for _, a in plain.elements for key in ("src", "href", "xlink:href") if key in a]
    assert len(addresses) > 18
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "default-src 'none'" in plain.source


def test_everything_seen_has_a_text(plain: Page) -> None:
    assert plain.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in plain.all("img"))
    drawn = [a for _, a in plain.elements if a.get("role") == "img"]
    assert len(drawn) == 2
    assert all(a.get("aria-label") for a in drawn)
    assert "at 0.1 certified 93.1 % and attacked 94.7 %" in str(drawn[1]["aria-label"]).replace("\xa0", " ")
    levels = [int(tag[1]) for tag, _ in plain.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_all_witnesses_the_worst_first_with_their_replay_line(plain: Page, tmp_path: Path) -> None:
    assert len(plain.all("img")) == 3 * COUNTS.refuted
    assert plain.text.count("withstand replay witnesses/") == COUNTS.refuted
    assert "--model digits-cnn" in plain.text
    folder = make_run(tmp_path / "run", COUNTS)
    ranked = sorted((s.margin, s.id) for s in read_run(folder).samples if s.status == "refuted")
    found = [int(id) for id in re.findall(r"Sample (\d+) ", plain.text)]
    assert found == [id for _, id in ranked]


def test_pictures_have_limited_room_and_what_is_left_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("withstand.reporting.page.worst", partial(worst, room=5_000))
    page = Page(report(make_run(tmp_path / "run", COUNTS)))
    shown = page.text.count("withstand replay witnesses/")
    assert 1 <= shown < COUNTS.refuted
    assert f"{COUNTS.refuted - shown} more are in the folder" in page.text


def test_the_replay_line_names_the_model_as_seen_from_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(b"")
    folder = make_run(Path("runs") / "run", Counts(refuted=1), model="net.onnx")
    assert "withstand replay witnesses/000000.npz --model ../../net.onnx" in Page(report(folder)).text
    (folder / "model.onnx").write_bytes(b"")
    assert "--model model.onnx" in Page(report(folder)).text


def test_no_alarm_is_said_and_an_alarm_comes_with_advice(plain: Page, tmp_path: Path) -> None:
    assert "No alarm: nothing was seen" in plain.text
    alarms = [Alarm(name="zero gradients", sentence="Most are zero.", share=0.2, samples=[1, 2])]
    page = Page(report(make_run(tmp_path / "run", COUNTS, alarms=alarms)))
    assert "No alarm" not in page.text
    assert "Most are zero. (20.0 % of the samples looked at) What to do: Attack with a loss on the logits" in page.text
    assert page.text.index("zero gradients") < page.text.index("Accuracy over the radius")


def test_a_partial_run_is_marked(plain: Page, tmp_path: Path) -> None:
    assert "PARTIAL" not in plain.text
    page = Page(report(make_run(tmp_path / "run", COUNTS, state="partial")))
    assert "PARTIAL. This run was interrupted: 1,000 of 1,000 samples are settled. The same" in page.text
    assert "No alarm so far" in page.text


def test_a_run_just_begun_renders(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", COUNTS, state="running")
    text = json.loads((folder / "run.json").read_text()) | {"summary": None, "curve": []}
    (folder / "run.json").write_text(json.dumps(text))
    (folder / "samples.jsonl").unlink()
    page = Page(report(folder))
    assert "At linf 0.1, no sample is finished yet." in page.text
    assert page.text.count("PARTIAL") == 2


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run",
        Counts(proved=3, refuted=7, unknown=2, invalid=1),
        classes=[HOSTILE] * 10,
        model=HOSTILE,
        alarms=[Alarm(name=HOSTILE, sentence=HOSTILE)],
    )
    page = Page(report(folder))
    assert len(page.all("script")) == 2
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert HOSTILE in [piece.strip() for piece in page.pieces]
    assert json.loads(page.scripts[0])["rows"][0][3] == HOSTILE
    assert "<img src=x" not in page.source
    several = Page(report([folder, folder]))
    assert several.all("script") == several.all("img") == []


def test_inputs_that_are_no_pictures_show_their_largest_changes(tmp_path: Path) -> None:
    page = Page(report(make_run(tmp_path / "run", COUNTS, shape=(5,))))
    assert page.all("img") == []
    assert page.text.count("Largest changes of the input") == 41


def test_missing_or_foreign_witness_files_are_passed_over(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", Counts(proved=1, refuted=3))
    files = sorted((folder / "witnesses").iterdir())
    files[0].unlink()
    files[1].write_bytes(b"no archive")
    outside = shutil.move(files[2], tmp_path / "outside.npz")
    files[2].symlink_to(outside)
    assert "holds none of their witness files" in Page(report(folder)).text


def test_a_threat_without_radius_has_no_curve(tmp_path: Path) -> None:
    page = Page(report(make_run(tmp_path / "run", COUNTS, threat="box")))
    assert "At box, at most" in page.text
    assert "No curve" in page.text


def test_exactly_is_said_where_the_jaws_meet(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", Counts(proved=3, refuted=1)))
    assert "exactly 75.0" in headline(run)


def test_a_run_of_version_1_still_renders(tmp_path: Path) -> None:
    page = Page(report(OLD, tmp_path / "old.html"))
    assert "At linf 0.25, at most 66.7 % of 3 samples survive, at least 33.3 % surely do" in page.text
    assert "apgd" in page.text


def test_several_runs_on_one_page(tmp_path: Path) -> None:
    first = make_run(tmp_path / "runs" / "first", COUNTS)
    second = make_run(tmp_path / "runs" / "second", Counts(proved=1, refuted=2, unknown=1), model="other")
    report(first)
    page = Page(report([first, second]))
    assert (tmp_path / "runs" / "index.html").is_file()
    assert [a["href"] for a in page.all("a")] == ["first/report.html"]
    assert "1,000 98.8 % 93.1 % 94.7 %" in page.text
    assert "other" in page.text
    assert len(page.all("svg")) == 1


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", Counts(proved=1))
    assert report(folder, tmp_path / "page.html") == tmp_path / "page.html"
    assert not list(tmp_path.glob(".page*"))
    with pytest.raises(InputError, match="cannot be written"):
        report(folder, tmp_path / "no" / "such" / "page.html")
    with pytest.raises(InputError, match="No run folder was named"):
        report([])
