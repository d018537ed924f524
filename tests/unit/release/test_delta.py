"""Deltas: the new bundle comes back to the last byte, or nothing is written."""

import hashlib
import json
import lzma
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from bundles import a_bundle, a_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedeploy.errors import EdgedeployError, ToolError
from edgedeploy.release import apply_file, verify_file
from edgedeploy.release.applying import apply_delta
from edgedeploy.release.delta import Delta, write_delta
from edgedeploy.release.keys import SigningKey
from edgedeploy.release.packing import Codecs

CODECS: tuple[Codecs, ...] = ("zstd", "lzma")
HEAD_BYTES = len(apply_file.MAGIC) + 32


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return a_key(tmp_path_factory.mktemp("key"))


def tensors(arrays: list[np.ndarray]) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a file with tensors and something between them, and where the tensors lie."""
    content, cuts = b"graph", []
    for number, array in enumerate(arrays):
        content += b"tensor %d of float values" % number
        cuts.append((len(content), array.nbytes))
        content += array.tobytes()
    return content + b"end", cuts


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> tuple[Path, Path]:
    """Two bundles: tensors of several dtypes, of which some changed, one new, and other files."""
    folder = tmp_path_factory.mktemp("pair")
    numbers = np.random.default_rng(3)
    old = [numbers.standard_normal(size).astype(np.float32) for size in (3000, 9, 700, 5000)]
    old += [old[0].astype(np.float16), np.round(old[3] * 30).astype(np.int8)]
    new = [old[0] * np.float32(1.00001), old[1] + 1, old[2], old[3], *old[4:]]
    rare = numbers.choice([0, 1, 9], old[5].size, p=[0.8, 0.19, 0.01])
    new[4], new[5] = old[4] * np.float16(1.01), np.clip(old[5] + rare, -128, 127).astype(np.int8)
    new.insert(2, numbers.standard_normal(800).astype(np.float32))
    (before, cuts), (after, new_cuts) = tensors(old), tensors(new)
    text = numbers.bytes(3000)
    files = {"a/model.bin": before, "files/note.txt": b"old", "plan.engine": text}
    old_path = a_bundle(folder, "1.0.0", files, key, cuts={"a/model.bin": cuts})
    files = {"a/model.bin": after, "b/added.bin": before, "plan.engine": text[:999] + text[950:]}
    return old_path, a_bundle(folder, "1.1.0", files, key, cuts={"a/model.bin": new_cuts})


@pytest.fixture(scope="module", params=CODECS)
def delta(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pair: tuple[Path, Path],
) -> Delta:
    return write_delta(*pair, tmp_path_factory.mktemp("delta"), request.param)


def refusal(call: Callable[[], Any]) -> str:
    """Return the code with which something is refused."""
    with pytest.raises(EdgedeployError) as caught:
        call()
    return caught.value.diagnostics[0].code


def test_the_new_bundle_comes_back_to_the_last_byte(
    delta: Delta, pair: tuple[Path, Path], key: SigningKey, tmp_path: Path
) -> None:
    old, new = pair
    made = apply_delta(delta.path, old, tmp_path / "made", {key.id: key.public})
    assert made.path.read_bytes() == new.read_bytes()
    assert (made.release.version, made.signers) == ("1.1.0", (key.id,))
    assert delta.path.name == "doorbell-1.0.0-to-1.1.0.eddelta"
    plan, _ = opened(delta.path.read_bytes())
    codecs = {codec for block in plan["blocks"] for codec, _ in block["streams"]}
    assert codecs & {*apply_file.CRUMBS}
    # Copied: a whole file that is there under a new name, and what did not change of the others.
    assert delta.copied_bytes > 30_000 and delta.size_bytes < 0.4 * delta.new_bytes


def test_the_same_two_bundles_give_the_same_delta(
    delta: Delta, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    plan, _ = opened(delta.path.read_bytes())
    again = write_delta(*pair, tmp_path, plan["blocks"][0]["streams"][0][0])
    assert again.path.read_bytes() == delta.path.read_bytes()


CONTENTS = st.lists(
    st.one_of(
        st.binary(max_size=3000),
        st.integers(0, 255).map(lambda seed: random.Random(seed).randbytes(2048)),
        st.integers(1, 5000).map(lambda size: b"\0" * size),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=CONTENTS, new=CONTENTS, kept=st.booleans(), codecs=st.sampled_from(CODECS))
def test_any_two_bundles(
    old: list[bytes], new: list[bytes], kept: bool, codecs: Codecs, key: SigningKey, tmp_path: Path
) -> None:
    """Whatever the files are, and wherever they were cut."""
    folder = tmp_path / os.urandom(8).hex()
    folder.mkdir()
    if kept:
        new = [*old[:2], *new]
    paths = []
    for version, parts in (("1", old), ("2", new)):
        cuts, at = [], 0
        for part in parts:
            cuts.append((at, len(part)))
            at += len(part)
        files = {"model": b"".join(parts), "other": parts[0]}
        paths.append(a_bundle(folder, version, files, key, cuts={"model": cuts}))
    made = write_delta(*paths, folder, codecs)
    apply_delta(made.path, paths[0], folder / "made", {key.id: key.public})
    assert (folder / "made").read_bytes() == paths[1].read_bytes()
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["text", "zeros", "random", "other numbers"])
def test_never_larger_than_the_whole_compressed(kind: str, key: SigningKey, tmp_path: Path) -> None:
    """By zstd -19, and one in a hundred more; also where nothing is alike."""
    numbers = np.random.default_rng(5)
    content = {
        "text": " ".join(f"word{number % 97}" for number in range(9000)).encode(),
        "zeros": bytes(300_000),
        "random": numbers.bytes(200_000),
        "other numbers": numbers.standard_normal(40_000).astype(np.float32).tobytes(),
    }[kind]
    base = numbers.standard_normal(len(content) // 4).astype(np.float32).tobytes()
    old = a_bundle(tmp_path, "1", {"model": base}, key)
    new = a_bundle(tmp_path, "2", {"model": content}, key)
    whole = len(zstandard.ZstdCompressor(level=19).compress(new.read_bytes()))
    for codecs in CODECS:
        assert write_delta(old, new, tmp_path, codecs).size_bytes <= 1.01 * whole + 256


def test_another_base_is_refused_before_anything_is_written(
    delta: Delta, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    content = bytearray(pair[0].read_bytes())
    content[len(content) // 2] ^= 1
    near = tmp_path / "near.edpkg"
    near.write_bytes(content)
    for base in (pair[1], near):
        assert (
            refusal(lambda base=base: apply_delta(delta.path, base, tmp_path / "x", None)) == "E771"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["near.edpkg"]


def test_no_damage_passes(delta: Delta, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A bit turned over, cut off, grown: refused, and what was at the goal is still there."""
    content, chance = delta.path.read_bytes(), random.Random(4)
    goal, spoiled = tmp_path / "goal", tmp_path / "spoiled"
    goal.write_bytes(b"what was there")
    for number in range(120):
        at = chance.randrange(len(content))
        other = bytearray(content)
        other[at] ^= 1 << chance.randrange(8)
        changed = (bytes(other), content[:at], content + b"\0")[number % 3]
        spoiled.write_bytes(changed)
        assert refusal(lambda: apply_delta(spoiled, pair[0], goal, None)) == "E770"
    assert goal.read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["goal", "spoiled"]


def sealed(plan: bytes, streams: bytes) -> bytes:
    """Return a delta whose digest is right: what somebody hostile would write."""
    packed = lzma.compress(plan, format=lzma.FORMAT_RAW, filters=apply_file.LZMA)
    rest = struct.pack("<L", len(packed)) + packed + streams
    return apply_file.MAGIC + hashlib.sha256(rest).digest() + rest


def opened(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return plan and streams of a delta."""
    (size,) = struct.unpack_from("<L", content, HEAD_BYTES)
    packed = content[HEAD_BYTES + 4 : HEAD_BYTES + 4 + size]
    plan = lzma.decompress(packed, format=lzma.FORMAT_RAW, filters=apply_file.LZMA)
    return json.loads(plan), content[HEAD_BYTES + 4 + size :]


def test_damage_with_a_right_digest_is_refused(
    delta: Delta, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """The streams do not make the bundle whose digest the plan names; or cannot be decoded."""
    plan, streams = opened(delta.path.read_bytes())
    chance, spoiled = random.Random(6), tmp_path / "spoiled"
    for _ in range(60):
        other = bytearray(streams)
        other[chance.randrange(len(streams))] ^= 1 << chance.randrange(8)
        spoiled.write_bytes(sealed(json.dumps(plan).encode(), bytes(other)))
        assert refusal(lambda: apply_delta(spoiled, pair[0], tmp_path / "made", None)) in (
            "E770",
            "E734",  # the manifest was hit, and is still something
        )
    assert [path.name for path in tmp_path.iterdir()] == ["spoiled"]


def spoil(plan: dict[str, Any], change: str) -> bytes:
    """Return a plan that lies in one way."""
    blocks, copies = plan["blocks"], plan["copies"]
    lane = next(block for block in blocks if block["kind"] in apply_file.LANES)
    match change:
        case "schema":
            plan["schema"] = 2
        case "outside of the base":
            copies[0][1] = plan["base"]["size"]
        case "outside of the bundle":
            copies[0][0] = plan["new"]["size"] - 1
        case "negative":
            copies[0][0] = -1
        case "a bool":
            copies[0][0] = True
        case "twice":
            copies.append(copies[0])
        case "too little":
            copies.pop()
        case "kind":
            lane["kind"] = "f8"
        case "too few streams":
            lane["streams"].pop()
        case "other codec":
            lane["streams"][0][0] = "gzip"
        case "crumbs of no plane":
            blocks[0]["streams"][0][0] = f"crumbs-{blocks[0]['streams'][0][0]}"
        case "short base":
            lane["base"][0][1] -= 4
        case "too large a block":
            lane["new"] = [[0, 1 << 40]]
        case "no manifest":
            blocks.insert(0, lane)
        case "deep":
            return b"[" * 100_000
        case "no JSON":
            return b"\xff"
        case "a bomb":
            return b" " * (apply_file.MOST_PLAN_BYTES + 1)
        case "no blocks":
            plan["blocks"] = []
        case "missing":
            del plan["envelope"]
    return json.dumps(plan).encode()


@pytest.mark.parametrize(
    "change",
    [
        "schema",
        "outside of the base",
        "outside of the bundle",
        "negative",
        "a bool",
        "twice",
        "too little",
        "kind",
        "too few streams",
        "other codec",
        "crumbs of no plane",
        "short base",
        "too large a block",
        "no manifest",
        "deep",
        "no JSON",
        "a bomb",
        "no blocks",
        "missing",
    ],
)
def test_a_plan_that_lies_is_refused(
    change: str, delta: Delta, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    plan, streams = opened(delta.path.read_bytes())
    hostile = tmp_path / "hostile"
    hostile.write_bytes(sealed(spoil(plan, change), streams))
    assert refusal(lambda: apply_delta(hostile, pair[0], tmp_path / "made", None)) == "E770"
    assert [path.name for path in tmp_path.iterdir()] == ["hostile"]


def test_a_bundle_that_others_signed_is_refused(
    delta: Delta, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Before anything is written: what would write is taken away."""
    stranger = a_key(tmp_path)
    before = sorted(tmp_path.iterdir())
    call = lambda: apply_delta(  # noqa: E731
        delta.path, pair[0], tmp_path / "made", {stranger.id: stranger.public}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apply_file, "_rebuild", lambda *_: pytest.fail("it began to write"))
        assert refusal(call) == "E736"
    assert sorted(tmp_path.iterdir()) == before


def test_a_signed_manifest_over_other_files_is_refused(
    delta: Delta, pair: tuple[Path, Path], key: SigningKey, tmp_path: Path
) -> None:
    """The manifest is the publisher's, the digest of the bundle is not: the files betray it."""
    old, new = pair
    plan, streams = opened(delta.path.read_bytes())
    forged = bytearray(new.read_bytes())
    at, start, length = max(plan["copies"], key=lambda copy: copy[2])
    plan["copies"].remove([at, start, length])
    plan["copies"].append([at, start - 1, length])
    forged[at : at + length] = old.read_bytes()[start - 1 : start - 1 + length]
    plan["new"]["sha256"] = hashlib.sha256(forged).hexdigest()
    hostile = tmp_path / "hostile"
    hostile.write_bytes(sealed(json.dumps(plan).encode(), streams))
    code = refusal(lambda: apply_delta(hostile, old, tmp_path / "made", {key.id: key.public}))
    assert code in ("E731", "E735")
    assert [path.name for path in tmp_path.iterdir()] == ["hostile"]


def test_two_releases_without_a_way_between_them(key: SigningKey, tmp_path: Path) -> None:
    one = a_bundle(tmp_path, "1", {"model": b"x"}, key)
    other = a_bundle(tmp_path, "2", {"model": b"x"}, key, name="bell")
    for old, new in ((one, one), (other, one)):
        assert refusal(lambda old=old, new=new: write_delta(old, new, tmp_path)) == "E774"
    assert not list(tmp_path.glob("*delta*"))


def test_a_damaged_bundle_is_no_base(pair: tuple[Path, Path], tmp_path: Path) -> None:
    content = bytearray(pair[0].read_bytes())
    content[content.index(b"tensor 3") + 1000] ^= 1
    damaged = tmp_path / "damaged.edpkg"
    damaged.write_bytes(content)
    assert refusal(lambda: write_delta(damaged, pair[1], tmp_path)) == "E735"
    damaged.write_bytes(b"no bundle")
    assert refusal(lambda: write_delta(damaged, pair[1], tmp_path)) == "E731"
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.edpkg"]


def test_without_zstandard(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delta for it can neither be made nor applied, and that is said; lzma needs nothing."""
    made = write_delta(*pair, tmp_path, "zstd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ToolError, match="zstandard"):
        write_delta(*pair, tmp_path, "zstd")
    assert refusal(lambda: apply_delta(made.path, pair[0], tmp_path / "made", None)) == "E773"
    plain = write_delta(*pair, tmp_path, "lzma")
    apply_delta(plain.path, pair[0], tmp_path / "made", None)


def on_device(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program for devices from a folder of its own, without any package."""
    for module in (apply_file, verify_file):
        shutil.copy(str(module.__file__), folder)
    command = [sys.executable, "-S", "-E", "apply_file.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_device_applies_it_with_the_standard_library_alone(
    delta: Delta, pair: tuple[Path, Path], key: SigningKey, tmp_path: Path
) -> None:
    for number, other in enumerate((key, a_key(tmp_path))):
        (tmp_path / f"{number}.pub").write_text(_pem(other.public))
    common = (str(delta.path), "--to", str(pair[0]), "-o", "made", "--key")
    done = on_device(tmp_path, *common, "0.pub")
    if b'"zstd"' in json.dumps(opened(delta.path.read_bytes())[0]).encode():
        assert (done.returncode, "zstandard" in done.stderr) == (5, True)
        assert not (tmp_path / "made").exists()
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "made").read_bytes() == pair[1].read_bytes()
    (tmp_path / "made").unlink()
    done = on_device(tmp_path, *common, "1.pub")
    assert (done.returncode, done.stderr.startswith("refused: ")) == (7, True)
    (tmp_path / "2.pub").write_text("no key")
    done = on_device(tmp_path, *common, "2.pub")
    assert (done.returncode, done.stderr.startswith("refused: ")) == (2, True)
    assert not list(tmp_path.glob("made*"))


def _pem(public: bytes) -> str:
    import base64

    head = bytes.fromhex("302a300506032b6570032100")  # RFC 8410, section 4
    body = base64.b64encode(head + public).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


# Percent of the new file that integer differences in byte planes under zstd -19 were, for the
# weights of YOLOv8n after noise of a share of each tensor's standard deviation; another program
# measured them.
FIGURES = [("fp32", 1e-4, 46.3), ("fp32", 1e-3, 56.5), ("fp32", 1e-2, 67.4)]
FIGURES += [("fp16", 1e-4, 12.9), ("fp16", 1e-3, 30.1), ("fp16", 1e-2, 51.0)]
FIGURES += [("int8", 1e-3, 4.7), ("int8", 1e-2, 16.6)]


@pytest.mark.parametrize(("kind", "share", "figure"), FIGURES)
def test_tuned_weights_cost_what_others_measured(
    kind: str, share: float, figure: float, key: SigningKey, tmp_path: Path
) -> None:
    """Within five points, on weights that are normal and as large as a small layer's."""
    numbers = np.random.default_rng(8)
    old = numbers.standard_normal((3, 16_000)).astype(np.float32) * 0.05
    new = old + share * old.std() * numbers.standard_normal(old.shape).astype(np.float32)
    paths = []
    for version, weights in (("1", old), ("2", new)):
        arrays = [
            {
                "fp32": layer,
                "fp16": layer.astype(np.float16),
                "int8": np.round(layer / np.abs(layer).max() * 127).astype(np.int8),
            }[kind]
            for layer in weights
        ]
        content, cuts = tensors(arrays)
        paths.append(a_bundle(tmp_path, version, {"model": content}, key, cuts={"model": cuts}))
    for codecs in CODECS:
        made = write_delta(*paths, tmp_path, codecs)
        assert 100 * made.size_bytes / made.new_bytes < figure + 5
