"""Certificates on the command line: stored by verify and audit, checked by check, with exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Command, write_question

from withstand.checker.check import check
from withstand.checker.file import load, save
from withstand.core.run_files import read_sample_records

SAMPLES = ("digits-cnn-cert", "--data", "digits", "--threat", "linf:0.02", "--limit", "4")


def test_a_question_s_certificate_is_stored_and_checks(withstand: Command) -> None:
    write_question(1.5)
    done = withstand("verify", "--onnx", "net.onnx", "--vnnlib", "prop.vnnlib", "--certificates", "kept", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["result"], told["certificate"], told["reason"]) == ("unsat", "kept/net-prop.safetensors", "")
    done = withstand("check", told["certificate"], "--model", "net.onnx")
    assert done.code == 0
    assert "The certificate holds (leaf-checked certificate)" in done.out
    region = load(told["certificate"]).region
    assert -1e-300 < region.low.max() <= 0 < 1 <= region.high.min() < 1 + 1e-15


def test_a_question_of_two_regions_has_a_folder_of_certificates(withstand: Command) -> None:
    write_question(1.5)
    text = Path("prop.vnnlib").read_text()
    assert "X_0" in text
    Path("prop.vnnlib").write_text(
        text + "(assert (or (and (<= X_0 0.25) (>= X_0 0.0)) (and (>= X_0 0.75) (<= X_0 1.0))))\n"
    )
    done = withstand("verify", "--onnx", "net.onnx", "--vnnlib", "prop.vnnlib", "--certificates", "kept")
    assert done.out.split() == ["unsat"], done.err
    assert sorted(path.name for path in Path("kept/net-prop").iterdir()) == ["1.safetensors", "2.safetensors"]
    assert withstand("check", "kept").code == 2
    done = withstand("check", "kept", "--model", "net.onnx")
    assert done.code == 0
    assert "2 certificates: all hold." in done.out
    held = load("kept/net-prop/2.safetensors")
    save(replace(held, rows=replace(held.rows, offset=held.rows.offset - 3)), "kept/net-prop/2.safetensors")
    done = withstand("check", "kept", "--model", "net.onnx")
    assert done.code == 1
    assert "2 certificates: 1 do not hold." in done.out
    done = withstand("check", "kept", "--model", "net.onnx", "--json")
    assert done.code == 1
    assert [one["holds"] for one in json.loads(done.out)["certificates"].values()] == [True, False]


def test_a_list_names_certificates_in_its_results(withstand: Command) -> None:
    write_question(1.5)
    Path("list.csv").write_text("net.onnx,prop.vnnlib,30,unsat\n")
    done = withstand("verify", "--instances", "list.csv", "--out", "out.csv", "--certificates", "kept")
    assert done.code == 0, done.err
    name = Path("out.csv").read_text().splitlines()[1].rpartition(",")[2]
    assert name == "kept/net-prop.safetensors"
    assert check(name, "net.onnx").holds


def test_samples_get_a_certificate_each(withstand: Command) -> None:
    done = withstand("verify", *SAMPLES, "--method", "crown", "--certificates", "kept")
    assert done.code == 0, done.err
    assert "(leaf-checked certificate)" in done.out
    assert "kept: 4 certificates of 4 proofs." in done.out
    done = withstand("check", "kept")
    assert done.code == 0
    assert "4 certificates: all hold." in done.out
    assert withstand("check", "kept/0.safetensors", "--model", "digits-cnn-cert").code == 0
    assert withstand("check", "kept/0.safetensors", "--model", "digits-cnn").code == 1


def test_proofs_without_certificates_keep_their_grade_and_say_why(withstand: Command) -> None:
    done = withstand("verify", *SAMPLES[:-1], "1", "--method", "lp", "--certificates", "kept")
    assert done.code == 0, done.err
    assert "without slack)" in done.out
    assert "unknown: no certificate" not in done.out
    assert "0 certificates of 1 proofs (for one: no certificate was stored: the method that proved it" in done.out


def test_an_audit_stores_certificates_and_check_reads_them(withstand: Command) -> None:
    plan = {"model": "", "data": "", "threat": "", "attacks": ["noise"], "verifiers": ["crown"], "curve": [1.0]}
    Path("plan.json").write_text(json.dumps(plan))
    command = ("audit", *SAMPLES, "--plan", "plan.json", "--out", "run", "--certificates")
    assert withstand(*command).code == 0
    samples = read_sample_records(Path("run/samples.jsonl"))
    assert [sample.certificate for sample in samples] == [f"certificates/{i}.safetensors" for i in range(4)]
    assert {sample.grade for sample in samples} == {"leaf-checked certificate"}
    assert "leaf-checked certificate" in Path("run/report.html").read_text()
    before = Path("run/samples.jsonl").read_text()
    assert withstand(*command).code == 0
    assert Path("run/samples.jsonl").read_text() == before
    done = withstand("check", "run")
    assert done.code == 0
    assert "4 proofs (4 by certificate): everything holds." in done.out
    Path("run/certificates/1.safetensors").write_bytes(Path("run/certificates/0.safetensors").read_bytes())
    Path("run/certificates/2.safetensors").write_bytes(b"no certificate")
    held = load("run/certificates/3.safetensors")
    save(replace(held, claims=replace(held.claims, weight=held.claims.weight / 2)), "run/certificates/3.safetensors")
    done = withstand("check", "run")
    assert done.code == 1
    for number, word in ((1, "is of another question"), (2, "cannot be used"), (3, "cannot be used")):
        assert f"The certificate of sample {number} {word}" in done.out
    assert withstand(*command[:-1]).code == 2


@pytest.mark.parametrize("threat", ["l0:1", "flow:0.1"])
def test_a_threat_without_certificates_is_told(withstand: Command, threat: str) -> None:
    done = withstand("verify", *SAMPLES[:3], "--threat", threat, "--limit", "1", "--certificates", "kept")
    assert done.code == 2
    assert done.err.count("\n") == 1
