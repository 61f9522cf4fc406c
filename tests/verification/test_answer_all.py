"""Lists of instances in worker processes: crashes, overruns and refusals cost one instance each."""

import time
from pathlib import Path

import misbehave
import onnx
import pytest

from withstand.core.errors import InputError, ToolFault
from withstand.io.instances import Instance
from withstand.io.results import Result
from withstand.verification import instances as module
from withstand.verification.instances import answer, answer_all, file_name
from withstand.verification.score import is_wrong, score
from withstand.verification.vnncomp import decide


@pytest.fixture
def ask(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "serve", misbehave.serve)

    def outcomes(*names, timeout=30.0, **kw):
        listed = [Instance("net.onnx", f"{name}_{i}.vnnlib", tmp_path, timeout) for i, name in enumerate(names)]
        found = dict(answer_all(listed, **kw))
        assert sorted(found) == list(range(len(names)))
        assert [found[i].instance for i in range(len(names))] == listed
        return [found[i] for i in range(len(names))]

    return outcomes


def pid(outcome):
    return int(outcome.reason.rpartition(" ")[2])


def test_one_process_answers_all(ask):
    found = ask("sat", "unsat", "unknown")
    assert [one.result.result for one in found] == ["sat", "unsat", "unknown"]
    assert len({pid(one) for one in found}) == 1
    assert (found[0].result.domains, found[0].result.bound, found[0].result.certificate) == (4, 0.5, "")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dead_process_loses_one_instance(ask, jobs):
    found = ask("sat", "segfault", "unsat", "exit", "unsat", jobs=jobs)
    assert [one.result.result for one in found] == ["sat", "error", "unsat", "error", "unsat"]
    assert "by signal 11" in found[1].reason
    assert "with code 7" in found[3].reason
    assert not any(one.fault for one in found)
    assert len({pid(found[i]) for i in (0, 2, 4)}) >= (3 if jobs == 1 else 2)


def test_a_step_that_cannot_be_interrupted_ends_in_time(ask):
    hung, answered = ask("hang", "unsat", timeout=1.0)
    assert hung.result.result == "timeout"
    assert hung.result.seconds >= 1.0
    assert hung.reason == "the time was over, in the middle of a step"
    assert hung.result.cpu_seconds > 0.05
    assert answered.result.result == "unsat"


def test_an_answer_a_little_late_is_still_heard(ask, monkeypatch):
    monkeypatch.setattr(module, "OVERRUN", 20.0)
    (late,) = ask("late", timeout=2.0)
    assert (late.result.result, late.result.bound) == ("timeout", 0.5)


def test_the_start_of_the_process_belongs_to_the_time_of_a_single_question(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "serve", misbehave.serve)
    write_files(tmp_path, "unsat_0", GOOD)
    began = time.monotonic() - 5.0
    told = answer(Instance("net.onnx", "unsat_0.vnnlib", tmp_path, 4.0), began).result
    assert told.result == "timeout"
    assert told.seconds >= 5.0
    told = answer(Instance("net.onnx", "unsat_0.vnnlib", tmp_path, 60.0), began).result
    assert told.result == "unsat"
    assert told.seconds > 5.0


GOOD = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))(assert (<= X_0 1))(assert (<= Y_0 0))"


def write_files(folder, name, text, data=None):
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"])]
    ends = [onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, [1, 1]) for end in "xy"]
    net = onnx.helper.make_model(onnx.helper.make_graph(nodes, "net", ends[:1], ends[1:]))
    (folder / "net.onnx").write_bytes(net.SerializeToString() if data is None else data)
    (folder / f"{name}.vnnlib").write_text(text)


FAULTS = {
    "a parenthesis": (GOOD + "(assert (<= Y_0 1)", None, "is never closed"),
    "a word": (GOOD + "(assert (<= Y_0 one))", None, "neither a number"),
    "another number of inputs": (GOOD + "(declare-const X_1 Real)", None, "declares 2 inputs, the network takes 1"),
    "another number of outputs": (GOOD + "(declare-const Y_1 Real)", None, "speaks of 2 outputs, the network has 1"),
    "no network": (GOOD, b"no network at all", "not a readable ONNX network"),
}


@pytest.mark.parametrize(("text", "data", "words"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("started", [False, True], ids=["slow to start", "slow to read"])
def test_a_fault_of_the_files_is_told_though_the_worker_never_comes_to_read_them(
    monkeypatch, tmp_path, text, data, words, started
):
    monkeypatch.setattr(module, "serve", misbehave.serve if started else misbehave.never_ready)
    write_files(tmp_path, "slow_0", text, data)
    instance = Instance("net.onnx", "slow_0.vnnlib", tmp_path, 0.2)
    found = [answer(instance, time.monotonic())]
    found += [outcome for _, outcome in answer_all([instance])] if started else []
    for told in found:
        assert (told.result.result, told.fault) == ("error", False)
        assert words in told.reason
        assert "\n" not in told.reason


@pytest.mark.parametrize("missing", ["net.onnx", "slow_0.vnnlib"])
def test_a_missing_file_is_told_whatever_the_start_takes(monkeypatch, tmp_path, missing):
    monkeypatch.setattr(module, "serve", misbehave.never_ready)
    write_files(tmp_path, "slow_0", GOOD)
    (tmp_path / missing).unlink()
    told = answer(Instance("net.onnx", "slow_0.vnnlib", tmp_path, 0.2), time.monotonic())
    assert told.result.result == "error"
    assert missing in told.reason


def test_files_without_fault_time_out_where_the_start_takes_too_long(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "serve", misbehave.never_ready)
    write_files(tmp_path, "slow_0", GOOD)
    told = answer(Instance("net.onnx", "slow_0.vnnlib", tmp_path, 0.2), time.monotonic())
    assert told.result.result == "timeout"


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_time_limits_are_positive_numbers(tmp_path, timeout):
    write_files(tmp_path, "q", GOOD)
    with pytest.raises(InputError, match="no positive number"):
        decide(tmp_path / "net.onnx", tmp_path / "q.vnnlib", timeout)


def test_refusals_and_failures_are_errors_of_one_instance(ask):
    refused, failed, answered = ask("refused", "failed", "unsat")
    assert [refused.result.result, failed.result.result, answered.result.result] == ["error", "error", "unsat"]
    assert (refused.reason, refused.fault, failed.reason, failed.fault) == (
        "it was refused",
        False,
        "it was failed",
        True,
    )


def test_several_jobs_work_at_once(ask):
    begun = []
    found = ask(*["unsat"] * 6, jobs=3, begun=lambda one: begun.append(one.vnnlib))
    assert len(begun) == 6
    assert 1 <= len({pid(one) for one in found}) <= 3


def test_certificates_get_names_of_their_own(ask, tmp_path):
    (found,) = ask("unsat", certificates=tmp_path / "certificates")
    assert found.result.certificate == str(tmp_path / "certificates" / "net-unsat_0")
    one = Instance("../nets/a b.onnx", "specs/p_0.03.vnnlib", tmp_path)
    assert file_name(one) == "nets_a_b-specs_p_0.03"


def test_workers_that_cannot_start_are_a_fault(ask, monkeypatch):
    monkeypatch.setattr(module, "serve", misbehave.cannot_start)
    with pytest.raises(ToolFault, match="exit code 5"):
        ask("unsat")


def test_no_instance_is_no_work(ask):
    assert ask() == []


def answered(word, known, seconds=2.0, timeout=10.0):
    instance = Instance("net.onnx", "p.vnnlib", Path(), timeout, known)
    return instance, Result("net.onnx", "p.vnnlib", word, seconds, seconds / 2, 0, 0.0)


def test_score():
    told = score(
        [
            answered("sat", "sat"),
            answered("unsat", None, 4.0),
            answered("unsat", "sat"),
            answered("timeout", "sat"),
        ]
    )
    assert (told.count, told.solved, told.wrong) == (4, 2, 1)
    assert told.words == {"sat": 1, "unsat": 2, "timeout": 1, "unknown": 0, "error": 0}
    assert (told.seconds, told.cpu_seconds) == (10.0, 5.0)
    assert told.par2 == (2 + 4 + 20 + 20) / 4
    assert [is_wrong(*answered(word, "unsat")) for word in ("sat", "unsat", "timeout", "error")] == [True] + [False] * 3


def test_an_answer_stands_though_its_certificate_is_not_done_in_time(ask):
    late, crashed, answered = ask("proved", "crashed", "sat", timeout=1.0)
    assert late.result.result == crashed.result.result == "unsat"
    assert late.result.certificate == crashed.result.certificate == ""
    assert "no certificate was stored: the time was over" in late.reason
    assert "no certificate was stored: its process ended with code 7" in crashed.reason
    assert answered.result.result == "sat"
