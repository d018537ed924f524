"""Manifests of versions: what is written is read back, and nothing unsafe is read at all."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.artifact import FileEntry, Segment
from edgedeploy.devices.version import (
    Version,
    VersionGolden,
    VersionModel,
    parse_version,
)
from edgedeploy.errors import DeviceError, IntegrityError
from edgedeploy.fileset import MAX_FILES
from edgedeploy.gpu import EngineNeeds
from edgedeploy.manifest import canonical

A, B, C = "a" * 64, "b" * 64, "c" * 64


def version() -> Version:
    """Return a version with everything in it."""
    return Version(
        app="line-reader",
        board="rpi5",
        models=(
            VersionModel(
                name="main",
                target="rpi5/ort",
                runtime="ort",
                entry="main/model.ort",
                artifact=C,
                candidate="w8a8",
                options={"optimization_style": "fixed"},
                golden=VersionGolden(
                    inputs="golden/main/inputs", outputs="golden/main/outputs", cosine=0.99
                ),
            ),
        ),
        files=(
            FileEntry(path="golden/main/inputs/pack.json", size=5, sha256=A),
            FileEntry(path="golden/main/outputs/pack.json", size=5, sha256=A),
            FileEntry(
                path="main/model.ort",
                size=30,
                sha256=B,
                segments=(
                    Segment(offset=0, length=10, sha256=A),
                    Segment(offset=10, length=20, sha256=C),
                ),
            ),
        ),
    )


def data() -> dict[str, Any]:
    """Return its manifest as data, to be spoiled."""
    found: dict[str, Any] = json.loads(version().manifest)
    return found


def refused(spoiled: Any) -> str:
    """Return why a manifest is refused."""
    with pytest.raises(IntegrityError) as caught:
        parse_version(canonical(spoiled))
    assert caught.value.diagnostics[0].code == "E435"
    return caught.value.diagnostics[0].message


def test_version_is_read_back() -> None:
    """The same version, and so the same name."""
    again = parse_version(version().manifest)
    assert again == version()
    assert again.name == version().name and len(again.name) == 64
    assert again.size_bytes == 35  # the two packs are one content


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "main/../../x",
        "main/./x",
        "main//x",
        "main/",
        "",
        ".",
        "..",
        "a\\b",
        "a\nb",
        "a\x1b[2Jb",
        "a\x00b",
        "manifest.json",
        "Manifest.JSON",
        "manifest.json/x",
        "x" * 256,
        "/".join(["x" * 200] * 6),
        "-rf",
        "main/-o/x",
        "/".join(["x"] * 65),
    ],
)
def test_unsafe_paths_are_refused(path: str) -> None:
    """Nothing outside the version's folder can be named, nor its manifest."""
    spoiled = data()
    spoiled["files"][0]["path"] = path
    spoiled["files"].sort(key=lambda file: file["path"])
    spoiled["models"] = []
    assert refused(spoiled)


@pytest.mark.parametrize(
    "pair",
    [
        ("main/Label.txt", "main/label.txt"),
        ("main/stra\u00dfe", "main/strasse"),
        ("main/caf\u00e9", "main/cafe\u0301"),
        ("main/a", "main/a/b"),
        ("main/A/b", "main/a"),
    ],
)
def test_names_that_a_file_system_may_mix_up_are_refused(pair: tuple[str, str]) -> None:
    """Case, forms of accents, and a name that is both file and folder."""
    spoiled = data()
    spoiled["models"] = []
    spoiled["files"] = [{"path": path, "size": 1, "sha256": A} for path in sorted(pair)]
    assert refused(spoiled)


def change(place: str, value: Any) -> dict[str, Any]:
    """Return the manifest with one value replaced; ``models.0.entry`` names a place."""
    spoiled = data()
    *folders, last = place.split(".")
    at: Any = spoiled
    for name in folders:
        at = at[int(name)] if isinstance(at, list) else at[name]
    at[int(last) if isinstance(at, list) else last] = value
    return spoiled


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("app", "../x"),
        ("app", ""),
        ("app", 5),
        ("kind", "released"),
        ("board", ["rpi5"]),
        ("extra", 1),
        ("models", {}),
        ("models.0.entry", "main/other.ort"),
        ("models.0.entry", "golden/main/inputs/pack.json"),
        ("models.0.artifact", "c" * 63),
        ("models.0.options", []),
        ("models.0.runtime", "o\nrt"),
        ("models.0.golden", {"inputs": "golden/main/inputs"}),
        ("models.0.golden.inputs", "golden/other"),
        ("models.0.golden.cosine", True),
        ("models.0.golden.cosine", 7.0),
        ("files", 3),
        ("files.0", None),
        ("files.0.path", 3),
        ("files.0.size", -1),
        ("files.0.size", 1.0),
        ("files.0.size", True),
        ("files.0.size", 1 << 60),
        ("files.0.sha256", "A" * 64),
        ("files.1.size", 6),  # one digest, two sizes
        ("files.2.size", 31),
        ("files.2.segments", []),
        ("files.2.segments.0", [0, 10]),
        ("files.2.segments.0", [1, 9, A]),
        ("files.2.segments.1", [10, 0, A]),
        ("files.2.segments.1", [9, 21, A]),
        ("files.2.segments.1", [10, 20, "x"]),
    ],
)
def test_wrong_values_are_refused(place: str, value: Any) -> None:
    """Every field is what it should be, or the manifest is none."""
    assert refused(change(place, value))


ENGINE = EngineNeeds(
    runtime="tensorrt",
    version="10.3.0",
    system="linux",
    arch="arm64",
    compute_capabilities=("8.7",),
    gpu="Orin NX 16GB",
)


def test_what_an_engine_needs_travels_with_it() -> None:
    """A model that is none says nothing of it, so that older versions keep their names."""
    plain = version()
    assert "needs" not in data()["models"][0]
    engine = replace(plain, models=(replace(plain.models[0], needs=ENGINE),))
    assert parse_version(engine.manifest) == engine
    assert engine.name != plain.name


@pytest.mark.parametrize(
    "needs",
    [None, {}, [], {**ENGINE.to_json(), "arch": ""}, {**ENGINE.to_json(), "more": 1}],
)
def test_needs_of_an_engine_are_read_strictly(needs: Any) -> None:
    spoiled = data()
    spoiled["models"][0]["needs"] = needs
    assert "needs" in refused(spoiled)


def test_too_many_files_are_refused() -> None:
    """A count is refused before anything is made of it."""
    spoiled = data()
    spoiled["models"] = []
    spoiled["files"] = [
        {"path": f"f/{at:06}", "size": 1, "sha256": A} for at in range(MAX_FILES + 1)
    ]
    assert "10000" in refused(spoiled)


def test_files_twice_or_out_of_order_are_refused() -> None:
    """So that one version has one manifest."""
    for files in ([0, 0, 1, 2], [1, 0, 2]):
        spoiled = data()
        spoiled["files"] = [spoiled["files"][at] for at in files]
        assert refused(spoiled)


def test_two_models_of_one_name_are_refused() -> None:
    """They would share a folder."""
    spoiled = data()
    spoiled["models"] *= 2
    assert refused(spoiled)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"schema":1,"schema":1}',
        b'{"a":NaN}',
        b"9" * 10_000,
        version().manifest + b"\n",
        version().manifest.decode().encode("utf-16"),
    ],
    ids=range(9),
)
def test_what_is_no_canonical_json_is_refused(content: bytes) -> None:
    """Also what JSON readers disagree on."""
    with pytest.raises(IntegrityError):
        parse_version(content)


def test_another_schema_is_told_apart() -> None:
    """The way out is another one."""
    with pytest.raises(DeviceError) as caught:
        parse_version(canonical({**data(), "schema": 2, "new": 1}))
    assert caught.value.diagnostics[0].code == "E436"


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_no_damage_gets_past(at: int, noise: bytes) -> None:
    """Whatever bytes are put in, the answer is the same version, another whole one, or an error."""
    content = version().manifest
    at %= len(content)
    spoiled = content[:at] + noise + content[at + len(noise) :]
    try:
        found = parse_version(spoiled)
    except (IntegrityError, DeviceError):
        return
    assert found.manifest == spoiled
