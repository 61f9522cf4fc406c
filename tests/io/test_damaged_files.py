"""Files that are cut, changed or lie about their size: every reader says so in one sentence."""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from withstand.auditing.plan import load_plan
from withstand.checker.file import load as load_certificate
from withstand.core.errors import InputError
from withstand.core.run_files import read_run_record, read_sample_records
from withstand.graph.capture import capture
from withstand.graph.onnx_reader import read_onnx
from withstand.graph.onnx_writer import write_onnx
from withstand.graph.pt2 import read_pt2
from withstand.io.data import load_data
from withstand.io.instances import read_instances
from withstand.io.nnet import read_nnet
from withstand.io.results import read_results
from withstand.io.vnnlib import read_vnnlib
from withstand.io.weights import load_weights
from withstand.io.witness import Witness, load_witness

DAMAGES = 60
"""Damaged copies of each file."""

NNET = "// a network\n1,2,1,2,\n2,1,\n0,\n0,0,\n1,1,\n0,0,0,\n1,1,1,\n1,2,\n0.5,\n"
VNNLIB = (
    "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(assert (>= X_0 0.0))\n(assert (<= X_0 1.0))\n"
    "(assert (or (and (>= Y_0 0.5)) (and (<= Y_0 -0.5))))\n"
)
PLAN = (
    '{"model": "digits-cnn", "data": "digits", "threat": "linf:0.1", "attacks": ["pgd"], "verifiers": ["crown"], '
    '"curve": [1.0]}'
)
ROW = "onnx,vnnlib,result,seconds,cpu_seconds,domains,bound,certificate\na,b,sat,1,1,1,0.5,\n"


ODD = (b"\xff" * 8, b"\x00" * 8, b"99999999", b"-1", b"nan", b"\xff\xff\xff\x7f")


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def an_npz(path: Path) -> None:
    np.savez(path, x=np.ones((3, 2), np.float32), y=np.array([0, 1, 0]))


def a_witness(path: Path) -> None:
    x = np.ones(3, np.float32)
    Witness(x, x, np.array(1), 0, "argmax", "linf", 0.1, (0.0, 1.0), 0, 0.0, -1.0, "pgd", "m").save(path)


def a_folder(path: Path) -> None:
    Image.new("L", (5, 4), 100).save(path)


def a_checkpoint(path: Path) -> None:
    torch.save(small().state_dict(), path)


def a_program(path: Path) -> None:
    torch.export.save(torch.export.export(small().eval(), (torch.zeros(1, 3),)), path)


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


KINDS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "net.onnx": (lambda path: path.write_bytes(write_onnx(capture(small(), (3,)))), read_onnx),
    "net.nnet": (text(NNET), read_nnet),
    "net.pt2": (a_program, read_pt2),
    "data.npz": (an_npz, load_data),
    "data.csv": (text("a,b,label\n1,2,0\n3,4,1\n"), load_data),
    "image/0/a.png": (a_folder, lambda path: load_data(path.parent.parent)),
    "image/0/a.gif": (a_folder, lambda path: load_data(path.parent.parent)),
    "w.npz": (a_witness, load_witness),
    "w.safetensors": (lambda path: save_file(small().state_dict(), path), load_weights),
    "w.pt": (a_checkpoint, load_weights),
    "c.safetensors": (lambda path: save_file(small().state_dict(), path), load_certificate),
    "p.vnnlib": (text(VNNLIB), read_vnnlib),
    "i.csv": (text("onnx,vnnlib,timeout_s\na.onnx,b.vnnlib,10\n"), read_instances),
    "r.csv": (
        text(ROW),
        read_results,
    ),
    "plan.json": (text(PLAN), load_plan),
    "run.json": (text('{"version": 1, "plan": ' + PLAN + "}"), read_run_record),
    "samples.jsonl": (text('{"id": 0}\n{"id": 1}\n'), read_sample_records),
}


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A copy with bytes changed, cut off, put in, repeated or left out."""
    held = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        place, size = draw.randrange(len(held) + 1), draw.choice((1, 2, 4, 16))
        match draw.randrange(6):
            case 0:
                held[place : place + 1] = bytes([draw.randrange(256)])
            case 1:
                held = held[:place] or held[:1]
            case 2:
                held[place:place] = draw.randbytes(size)
            case 3:
                del held[place : place + size]
            case 4:
                held[place : place + 8] = draw.choice(
                    (b"\xff" * 8, b"\x00" * 8, b"99999999", b"-1", b"nan", b"\xff\xff\xff\x7f")
                )
            case 5:
                held[place:place] = held[max(0, place - size) : place]
    return bytes(held)


@pytest.mark.filterwarnings("ignore")  # libraries warn of what they find
@pytest.mark.parametrize("name", KINDS)
def test_every_damage_is_told(tmp_path: Path, name: str) -> None:
    write, read = KINDS[name]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    whole, draw = path.read_bytes(), random.Random(name)
    told = 0
    for _ in range(DAMAGES if name not in ("net.pt2", "net.onnx") else DAMAGES // 3):
        path.write_bytes(damaged(whole, draw))
        sentence = complaint(read, path)
        told += sentence is not None
        assert sentence is None or len(sentence.strip().splitlines()) == 1
    assert told > 0


def complaint(read: Callable[[Path], object], path: Path) -> str | None:
    """What a reader says of a file, None where it takes it; any other error passes."""
    try:
        read(path)
    except InputError as error:
        return str(error)
    return None


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(shape: str, content: bytes = b"", kind: str = "<f4") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


LABELS = npy("(2,)", np.zeros(2, np.int64).tobytes(), "<i8")


@pytest.mark.parametrize(
    "x",
    [
        npy("(1750000000,)", b"0" * 64),
        npy("(4000000000, 4000000000)"),
        npy("(-1, 2)", b"0" * 8),
        npy("(2, 2)", b"0" * 15),
        npy("(2, 2)", b"0" * 17),
        npy("(2, 'a')"),
        npy("(2, 2", b"0" * 16),
        npy("(2, 2)", b"0" * 16, "<q9"),
        npy("(2,)", b"0" * 16, "|O"),
        b"no array at all",
        b"",
        b"\x93NUMPY",
    ],
)
def test_members_that_are_no_arrays_or_lie_about_their_size(tmp_path: Path, x: bytes) -> None:
    for reader, names in ((load_data, ("x.npy", "y.npy")), (load_data, ("x", "y"))):
        path = zipped(tmp_path / "d.npz", **{names[0]: x, names[1]: LABELS})
        with pytest.raises(InputError, match=r"is damaged|is pickled"):
            reader(path)


def test_an_npz_whose_parts_are_wrong(tmp_path: Path) -> None:
    path = zipped(tmp_path / "d.npz", **{"x.npy": npy("(2, 2)", b"0" * 16), "y.npy": LABELS})
    whole = path.read_bytes()
    for content in (whole[:-10], whole[:40], whole.replace(b"x.npy", b"z.npy", 1), b"PK\x05\x06" + b"\x00" * 18):
        path.write_bytes(content)
        with pytest.raises(InputError):
            load_data(path)


def png(width: int, height: int) -> bytes:
    """A picture that says how large it is and holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\x00" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("width", "height"), [(20_000, 20_000), (10_000, 10_000), (2**31 - 1, 2**31 - 1), (70_000, 1_000)]
)
def test_images_of_many_pixels(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.png").write_bytes(png(width, height))
    with pytest.raises(InputError, match=r"pixels|cannot be read"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"version": 1' + b"0" * 5000 + b"}", b'"\\ud800"'],
)
@pytest.mark.parametrize("reader", [read_run_record, load_plan])
def test_records_that_are_none(tmp_path: Path, content: bytes, reader) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError):
        reader(tmp_path / "run.json")


def test_a_garbled_line_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    content = b"\xff\x00garbage\n" + json.dumps({"id": 1}).encode() + b"\n"
    path.write_bytes(content)
    with pytest.raises(InputError, match="Line 1 of"):
        read_sample_records(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,99999999]}}'[:60],
    ],
)
def test_headers_of_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    for read in (load_weights, load_certificate):
        with pytest.raises(InputError):
            read(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "content", ["(" * 100_000, "(assert " * 5000 + ")" * 5000, "(declare-const X_0 Real)(assert (<= X_0 1e999999))"]
)
def test_questions_that_nest_or_overflow(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.vnnlib").write_text(content)
    with pytest.raises(InputError):
        read_vnnlib(tmp_path / "p.vnnlib")


def test_a_program_that_unpacks_to_more_than_it_is(tmp_path: Path) -> None:
    a_program(tmp_path / "net.pt2")
    held = io.BytesIO((tmp_path / "net.pt2").read_bytes())
    with zipfile.ZipFile(held) as old, zipfile.ZipFile(tmp_path / "net.pt2", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr(f"{old.namelist()[0].split('/')[0]}/extra/zeros", bytes(2**27))
    with pytest.raises(InputError, match="unpacks to"):
        read_pt2(tmp_path / "net.pt2")
