"""benchmarks/verify.py: a folder is answered and a peer's results are read in both forms and compared."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from tiny import distance_net

from withstand.graph.onnx_writer import write_onnx
from withstand.io.results import read_results

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "verify.py"
HEAD = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)\n"
UNIT = "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1)))\n"


def test_a_folder_beside_two_peers(tmp_path):
    folder = tmp_path / "distance"
    folder.mkdir()
    (folder / "net.onnx").write_bytes(write_onnx(distance_net(torch.float32)))
    for name, limit in (("reached", 0.5), ("held", 1.5), ("other", 1.5)):
        (folder / f"{name}.vnnlib").write_text(f"{HEAD}{UNIT}(assert (>= Y_0 {limit}))")
    (folder / "instances.csv").write_text(
        "onnx,vnnlib,timeout_s,known_verdict\nnet.onnx,reached.vnnlib,30,sat\nnet.onnx,held.vnnlib,30,unsat\n"
        "net.onnx,other.vnnlib,30,unsat\n"
    )
    (tmp_path / "ours.csv").write_text("onnx,vnnlib,result,cpu_seconds\nnet.onnx,reached.vnnlib,sat,100\n")
    (tmp_path / "competition.csv").write_text(
        "d,./nets/net.onnx.gz,./specs/reached.vnnlib.gz,0.1,timeout,30\nd,net.onnx,held.vnnlib,0,violated,9.5\n"
    )
    peers = ["--compare", tmp_path / "ours.csv", "--compare", tmp_path / "competition.csv"]
    files = ["--csv", tmp_path / "out.csv", "--json", tmp_path / "out.json", "--only", "e"]
    command = [sys.executable, SCRIPT, folder, *peers, *files]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr  # the second peer contradicts us
    assert "distance          3       3      0" in done.stdout
    first, second = done.stdout.split("\nbeside ")[1:]
    assert first.startswith("ours, in cpu_seconds")
    assert "solved by both: 1" in first
    assert "by us alone: 0; by ours alone: 0; contradictions: 0" in first
    assert second.startswith("competition, in seconds")
    assert "solved by both: 1" in second
    assert "by us alone: 1; by competition alone: 0; contradictions: 1" in second
    assert [result.result for result in read_results(tmp_path / "out.csv")] == ["sat", "unsat", "unsat"]
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["totals"]["solved"] == 3
    assert told["instances"][0]["onnx"] == "distance/net.onnx"
