"""Lists of instances and files of results: what is read back, what is refused, and what a kill leaves."""

import csv
import io
import math
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from withstand.core.errors import InputError
from withstand.io.instances import Instance, read_instances, write_instances
from withstand.io.results import Result, ResultsFile, match, read_results

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6)
LIMITS = st.none() | st.floats(0.001, 1e6).map(lambda value: float(f"{value:g}"))


@pytest.fixture
def listed(tmp_path):
    def read(text):
        (tmp_path / "list.csv").write_text(text)
        return read_instances(tmp_path / "list.csv")

    return read


def test_without_a_header(listed, tmp_path):
    one, two, three = listed("a.onnx, p.vnnlib\n\nnets/b.onnx,p.vnnlib,1.5\nc.onnx,q.vnnlib,60,holds\n")
    assert (one.network, one.question) == (tmp_path / "a.onnx", tmp_path / "p.vnnlib")
    assert [one.timeout, two.timeout, three.timeout] == [None, 1.5, 60]
    assert [one.known, two.known, three.known] == [None, None, "unsat"]
    assert two.name == "b p"


def test_with_a_header_in_any_order(listed):
    (one,) = listed("known_verdict,vnnlib,onnx,more\nsat,p.vnnlib,a.onnx,x\n")
    assert (one.onnx, one.vnnlib, one.timeout, one.known) == ("a.onnx", "p.vnnlib", None, "sat")
    (one,) = listed("onnx,vnnlib,timeout_s,known_verdict\na.onnx,p.vnnlib,9,unknown\n")
    assert (one.timeout, one.known) == (9, None)


def test_a_list_from_a_spreadsheet_may_begin_with_a_byte_order_mark(listed):
    (one,) = listed("\ufeffonnx,vnnlib,timeout_s\r\na.onnx,p.vnnlib,9\r\n")
    assert (one.onnx, one.timeout) == ("a.onnx", 9)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("onnx,vnnlib\n", "is empty"),
        ("a.onnx\n", "line 1: name a network and a question"),
        ("onnx,vnnlib\na.onnx,\n", "line 2: name a network"),
        ("a.onnx,p.vnnlib,soon\n", "line 1: the time limit 'soon'"),
        ("a.onnx,p.vnnlib,-1\n", "the time limit '-1'"),
        ("a.onnx,p.vnnlib,nan\n", "the time limit 'nan'"),
        ("a.onnx,p.vnnlib,9,unsta\n", "line 1: the known verdict 'unsta'"),
    ],
)
def test_bad_lists_get_a_sentence(listed, text, sentence):
    with pytest.raises(InputError, match=sentence):
        listed(text)
    with pytest.raises(InputError, match="cannot be read"):
        read_instances("nowhere.csv")


@given(st.lists(st.tuples(NAMES, NAMES, LIMITS, st.sampled_from(["sat", "unsat", None])), min_size=1, max_size=5))
def test_a_list_is_read_back(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("lists")
    instances = [Instance(onnx, vnnlib, folder, limit, known) for onnx, vnnlib, limit, known in lines]
    write_instances(folder / "list.csv", instances)
    assert read_instances(folder / "list.csv") == instances


ROWS = [
    Result("a.onnx", "p.vnnlib", "unsat", 1.25, 1.0, 3, 0.1, "cert/a"),
    Result("a, b.onnx", "p.vnnlib", "timeout", 10.0, 9.5, 0, -math.inf),
    Result("a.onnx", "q.vnnlib", "sat", 0.5, 0.25, 1, -0.125),
]


def test_results_are_read_back_and_go_on(tmp_path):
    path = tmp_path / "out.csv"
    for number, row in enumerate(ROWS):
        file = ResultsFile(path)
        assert file.results == ROWS[:number] == read_results(path)
        file.append(row)
        file.close()
    assert read_results(path) == ROWS


def test_a_kill_at_any_byte_loses_one_line_at_most(tmp_path):
    file = ResultsFile(tmp_path / "whole.csv")
    for row in ROWS:
        file.append(row)
    file.close()
    content = (tmp_path / "whole.csv").read_bytes()
    for size in range(len(content)):
        path = tmp_path / "torn.csv"
        path.write_bytes(content[:size])
        file = ResultsFile(path)
        kept = len(file.results)
        assert file.results == ROWS[:kept]
        assert kept >= content[:size].count(b"\n") - 1
        for row in ROWS[kept:]:
            file.append(row)
        file.close()
        assert path.read_bytes() == content


def test_other_files_are_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    for text in ("my notes", "my notes\n", "unsat\n"):
        path.write_text(text)
        with pytest.raises(InputError, match="is no results file"):
            ResultsFile(path)
        assert path.read_text() == text


def test_two_runs_cannot_write_at_once_and_a_broken_line_is_told(tmp_path):
    file = ResultsFile(tmp_path / "out.csv")
    with pytest.raises(InputError, match="Another run"):
        ResultsFile(tmp_path / "out.csv")
    file.close()
    with (tmp_path / "out.csv").open("a") as text:
        text.write("a.onnx,p.vnnlib,unsat,soon,1,2,3,\n")
    with pytest.raises(InputError, match="line 2 is no result"):
        ResultsFile(tmp_path / "out.csv")
    with pytest.raises(InputError, match="cannot be written"):
        ResultsFile(tmp_path / "no folder" / "out.csv")


def test_results_find_their_instances(tmp_path):
    names = [("a.onnx", "p.vnnlib"), ("a.onnx", "q.vnnlib"), ("a.onnx", "p.vnnlib"), ("b.onnx", "p.vnnlib")]
    instances = [Instance(onnx, vnnlib, tmp_path) for onnx, vnnlib in names]
    assert match(instances, ROWS) == [ROWS[0], ROWS[2], None, None]
    assert match(instances, [*ROWS, ROWS[0]]) == [ROWS[0], ROWS[2], ROWS[0], None]


def test_the_file_is_plain_csv(tmp_path):
    file = ResultsFile(tmp_path / "out.csv")
    file.append(ROWS[1])
    file.close()
    header, line = csv.reader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert header == ["onnx", "vnnlib", "result", "seconds", "cpu_seconds", "domains", "bound", "certificate"]
    assert line == [str(value) for value in astuple(ROWS[1])]
