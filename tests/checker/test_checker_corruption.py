"""Certificates with something wrong in them: refused in one sentence, or found wanting, or still true."""

import json
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from checker.nets import network
from checker.producer import prove, question
from checker.randoms import points_of, random_certificate
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.checker.certificate import CUT, LEAF, Certificate, Slopes
from withstand.checker.check import check
from withstand.checker.file import FORMS, from_bytes, load, to_bytes
from withstand.checker.network import Network
from withstand.core.errors import InputError


@cache
def proof() -> tuple[Network, Certificate]:
    """A certificate that holds, of input and neuron splits below one anchor, with slopes for one claim."""
    net, region, rows, _ = question("fc", 18, gap=0.08, stretch=3)
    made = prove(net, region, rows, anchors=False)
    assert made is not None
    assert np.bincount(made.nodes.kind).tolist() == [8, 3, 4]
    listed, shares = np.arange(net.neurons, dtype=np.int32), np.full(net.neurons, 255, np.uint8)
    slopes = Slopes(np.zeros(1, np.int32), shares, np.zeros(0, np.float32), np.array([0, net.neurons]), listed)
    for claim in range(len(made.claims)):
        stored = np.full(len(made.claims), -1, np.int32)
        stored[claim] = 0
        certificate = replace(made, slopes=slopes, claims=replace(made.claims, slopes=stored))
        if check(certificate, net).holds:
            return net, certificate
    raise AssertionError("no claim holds with slopes of 1")


def change(certificate: Certificate, path: str, value) -> Certificate:
    """The certificate with one of its arrays replaced."""
    part, _, name = path.rpartition(".")
    if not part:
        return replace(certificate, **{name: value})
    return replace(certificate, **{part: replace(getattr(certificate, part), **{name: value})})


def true_at_points(certificate: Certificate, net: Network) -> bool:
    points = points_of(net, certificate.region, certificate.rows, np.random.default_rng(0), 500)
    return bool((points.best(certificate.rows) > certificate.rows.threshold).all())


def refused_or_true(data: bytes, net: Network) -> None:
    """What the checker says of bytes is one sentence, no, or the truth."""
    try:
        certificate = from_bytes(data)
        report = check(certificate, net)
    except InputError as refusal:
        if "\n" in str(refusal):
            raise AssertionError("more than one sentence") from refusal
        return
    if report.holds:
        assert true_at_points(certificate, net)
    else:
        assert report.failure


@given(st.integers(0, 10**9), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_flipped_bits(seed, count):
    net, certificate = proof()
    random = np.random.default_rng(seed)
    data = bytearray(to_bytes(certificate))
    start = 0 if seed % 4 == 0 else 8 + int.from_bytes(data[:8], "little")
    for place in random.integers(start, len(data), count):
        data[place] ^= 1 << int(random.integers(8))
    refused_or_true(bytes(data), net)


@given(st.integers(0, 10**9))
@settings(max_examples=150, deadline=None)
def test_numbers_replaced_by_others(seed):
    """Any entry of any array becomes another number, small, huge, negative or none."""
    net, certificate = proof()
    random = np.random.default_rng(seed)
    for name in random.choice(list(FORMS), 2):
        path, _, leaf = name.rpartition(".")
        held = certificate if not path else getattr(certificate, path)
        array = np.array(getattr(held, leaf))
        if array.size == 0 or array.dtype == object:
            continue
        flat = array.reshape(-1).copy()
        kind = flat.dtype
        new = random.choice([0, 1, -1, 2, 7, 2**31 - 1, -(2**31), random.normal(), 1e30, -1e300, np.nan, np.inf, 1e-3])
        place = random.integers(flat.size)
        with np.errstate(all="ignore"):
            integer = not np.isfinite(new) or abs(new) > 2**31
            flat[place] = new if kind.kind == "f" else np.int64(0 if integer else new).astype(kind)
        if array.shape:
            certificate = change(certificate, name, flat.reshape(array.shape)) if path != "region" else certificate
    refused_or_true(to_bytes(certificate), net)


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_random_certificates_changed_at_random(seed):
    """Cuts, targets, multipliers and smooth slopes among them."""
    net = network(["mixed", "residual", "fc"][seed % 3], seed % 3)
    data = bytearray(to_bytes(random_certificate(net, seed)))
    random = np.random.default_rng(seed)
    start = 8 + int.from_bytes(data[:8], "little")
    for place in random.integers(start, len(data), 1 + seed % 2):
        data[place] = int(random.integers(256))
    refused_or_true(bytes(data), net)


def no(certificate: Certificate, words: str) -> None:
    net, _ = proof()
    report = check(certificate, net)
    assert not report.holds
    assert report.grade == ""
    assert words in report.failure


def broken(certificate: Certificate, words: str) -> None:
    net, _ = proof()
    with pytest.raises(InputError, match=words):
        check(certificate, net)


def test_another_network():
    _, certificate = proof()
    no(replace(certificate, digest="0" * 64), "about the network 0000")
    with pytest.raises(InputError, match="input"):
        check(replace(certificate, input_name="y"), proof()[0])


def test_larger_regions_and_other_questions_fail():
    _, certificate = proof()
    region, rows = certificate.region, certificate.rows
    middle = (region.low + region.high) / 2
    wider = replace(region, low=middle - 4, high=middle + 4)
    no(replace(certificate, region=wider), "claims fail")
    no(replace(certificate, rows=replace(rows, threshold=rows.threshold + 100)), "claims fail")
    no(replace(certificate, rows=replace(rows, weight=-rows.weight, offset=-rows.offset)), "claims fail")


def test_a_moved_split_moves_for_both_children():
    """The point is one number for both, so that no gap can open: the bounds change, the region stays covered."""
    net, certificate = proof()
    for node in (certificate.nodes.kind != LEAF).nonzero()[0]:
        point = certificate.nodes.point.copy()
        point[node] += 0.05
        moved = change(certificate, "nodes.point", point)
        report = check(moved, net)
        assert report.holds or "claims fail" in report.failure
        assert not report.holds or true_at_points(moved, net)


def test_holes_in_the_cover():
    _, certificate = proof()
    claims = certificate.claims
    for gone in range(0, len(claims), 3):
        kept = np.arange(len(claims)) != gone
        sizes = np.bincount(certificate.rows.group)[claims.group]
        weight = claims.weight[np.repeat(kept, sizes)]
        held = {
            f.name: getattr(claims, f.name)[kept] for f in fields(claims) if f.name not in ("weight", "multipliers")
        }
        fewer = replace(certificate, claims=replace(claims, **held, weight=weight))
        no(fewer, "leave a part of the region without proof for group")


def test_a_cut_without_claims_covers_nothing():
    _, certificate = proof()
    nodes = certificate.nodes
    kind, child = nodes.kind.copy(), nodes.child.copy()
    lost = int(child[0, 1])
    kind[0], child[0, 1] = CUT, -1
    broken(change(change(certificate, "nodes.kind", kind), "nodes.child", child), "several parents, or none")
    root = np.append(certificate.root, lost).astype(np.int32)
    moved = change(change(change(certificate, "nodes.kind", kind), "nodes.child", child), "root", root)
    broken(moved, "another tree")


def test_damaged_trees():
    _, certificate = proof()
    nodes = certificate.nodes
    for node, side, target in (
        (0, 0, 0),
        (0, 1, len(nodes) - 1),
        (int(nodes.child[0, 0]), 0, 0),
        (0, 0, 10**6),
        (0, 1, -5),
    ):
        child = nodes.child.copy()
        child[node, side] = target
        broken(change(certificate, "nodes.child", child), "trees are damaged")
    broken(replace(certificate, root=np.array([1], np.int32)), "trees are damaged")
    broken(replace(certificate, root=np.zeros(0, np.int32)), "does not exist")
    broken(change(certificate, "nodes.kind", np.full_like(nodes.kind, 9)), "unknown kind")
    for point in (np.nan, np.inf):
        broken(change(certificate, "nodes.point", np.full_like(nodes.point, point)), "no finite number")
    broken(change(certificate, "nodes.place", np.full_like(nodes.place, 99)), "does not have")
    broken(change(certificate, "nodes.place", nodes.place[:-1]), "differ in length")


def test_two_nodes_in_a_circle_away_from_the_root():
    _, certificate = proof()
    nodes, count = certificate.nodes, len(certificate.nodes)
    circle = replace(
        nodes,
        kind=np.append(nodes.kind, [CUT, CUT]).astype(np.uint8),
        anchor=np.append(nodes.anchor, [False, False]),
        place=np.append(nodes.place, [0, 0]).astype(np.int32),
        point=np.append(nodes.point, [0.0, 0.0]),
        child=np.append(nodes.child, [[count + 1, -1], [count, -1]], 0).astype(np.int32),
    )
    broken(replace(certificate, nodes=circle), "circle")


def test_bad_numbers_in_claims():
    net, certificate = proof()
    claims = certificate.claims
    for value in (-1.0, np.nan, np.inf, 2.0):
        broken(change(certificate, "claims.weight", np.full_like(claims.weight, value)), "weights")
    broken(change(certificate, "claims.weight", claims.weight[:-1]), "number of weights")
    broken(change(certificate, "claims.node", np.full_like(claims.node, 10**6)), "a node that does not exist")
    broken(change(certificate, "claims.group", np.full_like(claims.group, -1)), "a group of rows that does not exist")
    broken(change(certificate, "claims.slopes", np.full_like(claims.slopes, 7)), "a row of slopes that does not exist")
    broken(change(certificate, "claims.count", np.full_like(claims.count, 1)), "multipliers")
    counts = np.zeros_like(claims.count)
    from withstand.checker.validity import validate

    deep = int(validate(certificate, net).pulls[claims.node].argmax())
    counts[deep] = int(validate(certificate, net).pulls[claims.node[deep]])
    assert counts[deep] > 0
    for value, word in ((0.5, ""), (-0.5, "below zero"), (np.nan, "below zero or not finite")):
        pulled = replace(claims, count=counts, multipliers=np.full(counts[deep], value, np.float32))
        changed = replace(certificate, claims=pulled)
        if word:
            broken(changed, word)
        else:
            check(changed, net)


def test_unknown_kinds_of_anchors_and_slopes():
    _, certificate = proof()
    broken(change(certificate, "nodes.anchor", certificate.nodes.anchor + 3), "unknown kind")
    broken(change(certificate, "claims.slopes", certificate.claims.slopes * 0 - 3), "a row of slopes that does not")


def test_bad_slopes():
    _, certificate = proof()
    slopes = certificate.slopes
    broken(change(certificate, "slopes.shares", slopes.shares[:-1]), "number of slopes")
    broken(change(certificate, "slopes.neuron", slopes.neuron[::-1].copy()), "rising order")
    broken(change(certificate, "slopes.neuron", slopes.neuron + 1000), "a neuron that does not exist")
    broken(change(certificate, "slopes.start", slopes.start[::-1].copy()), "lists of neurons are damaged")
    broken(change(certificate, "slopes.list", np.array([3], np.int32)), "a list of neurons that does not exist")
    targets = certificate.targets
    one = np.zeros(1, np.int32)
    leaf = (certificate.nodes.anchor == 0).nonzero()[0][:1].astype(np.int32)
    if len(leaf):
        at_leaf = replace(targets, node=leaf, neuron=one, upper=np.zeros(1, bool), slopes=one)
        broken(replace(certificate, targets=at_leaf), "no anchor")
    broken(replace(certificate, targets=replace(targets, neuron=one)), "targets are damaged")


def header_changed(data: bytes, edit) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def test_hostile_files():
    net, certificate = proof()
    data = to_bytes(certificate)
    length = int.from_bytes(data[:8], "little")
    deep = b"[" * 100_000
    cases = [
        b"",
        data[:7],
        (2**63).to_bytes(8, "little") + data[8:],
        (2**40).to_bytes(8, "little") + data[8:],
        data[: 8 + length],
        data[:-1],
        data + b"\0",
        len(deep).to_bytes(8, "little") + deep,
        (2).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"null",
        (3).to_bytes(8, "little") + b"\xff\xfe\x00",
        header_changed(data, lambda h: h.pop("__metadata__")),
        header_changed(data, lambda h: h["__metadata__"].update(version="2")),
        header_changed(data, lambda h: h["__metadata__"].update(input="[]")),
        header_changed(data, lambda h: h["__metadata__"].update(input='{"name": "x", "shape": [1e9]}')),
        header_changed(data, lambda h: h["__metadata__"].update(norm="linf")),
        header_changed(data, lambda h: h.pop("nodes.kind")),
        header_changed(data, lambda h: h.update(extra=1)),
        header_changed(data, lambda h: h.update(root=[])),
        header_changed(data, lambda h: h["root"].update(dtype="F64")),
        header_changed(data, lambda h: h["root"].update(shape=[2**60])),
        header_changed(data, lambda h: h["root"].update(shape=[2**30, 2**30])),
        header_changed(data, lambda h: h["root"].update(shape=[-1])),
        header_changed(data, lambda h: h["root"].update(shape=[True])),
        header_changed(data, lambda h: h["root"].update(data_offsets=[0, 10**12])),
        header_changed(data, lambda h: h["nodes.child"].update(shape=[2**40, 0])),
        header_changed(data, lambda h: h["__metadata__"].update(model="abc")),
        to_bytes(change(certificate, "nodes.child", np.zeros((len(certificate.nodes), 0)))),
    ]
    for case in cases:
        with pytest.raises(InputError):
            check(from_bytes(case), net)
    assert check(from_bytes(data), net).holds


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="no certificate file"):
        load(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="cannot be used as a certificate"):
        load(tmp_path / "text")


def test_any_reader_of_safetensors_reads_the_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    _, certificate = proof()
    held = safetensors.load(to_bytes(certificate))
    assert set(held) == set(FORMS)
    np.testing.assert_array_equal(held["nodes.child"], certificate.nodes.child)
    np.testing.assert_array_equal(held["rows.weight"], certificate.rows.weight)


def test_paths_may_not_be_endless(monkeypatch):
    monkeypatch.setattr("withstand.checker.tree.DEEPEST", 2)
    broken(proof()[1], "deeper than 2 splits")
