"""A profile that was built becomes a signed bundle: what enters it, and what stops it."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from onnx import helper, numpy_helper

from edgedeploy import api
from edgedeploy.cli.main import main
from edgedeploy.data.pack import PackReader
from edgedeploy.errors import EdgedeployError
from edgedeploy.events import EventLog
from edgedeploy.measured import read_measurements
from edgedeploy.release.counters import NAME as COUNTED
from edgedeploy.release.keys import new_key, read_public_key
from edgedeploy.release.opening import Bundle, open_bundle
from edgedeploy.release.signing import key_id
from edgedeploy.store import Store

pytestmark = pytest.mark.slow

TARGET = "linux-x86-64/ort"
PROFILE = """\
edgedeploy: 1
name: tiny
version: "1.2.0"
model:
  source: tiny.onnx
  author: Somebody
  licence: LicenseRef-Ours OR MIT
  classes: classes.txt
  data: {evaluate: photos}
  metric: agreement
quantize: none
gates: {cosine: 0.9, latency: {p50: 20 ms}}
files: [words.txt]
release:
  files_licence: mit
  texts: [legal/LicenseRef-Ours.txt]
targets: [linux-x86-64/ort]
"""
PRIVATE = np.full((1, 8), 0.123456, np.float32)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that was built, with a key; ``store`` and ``build`` lie in it."""
    folder = tmp_path_factory.mktemp("release")
    weight = numpy_helper.from_array(np.arange(32, dtype=np.float32).reshape(8, 4) / 7, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4])],
        [weight],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "tiny.onnx")
    for name in ("photos", "legal"):
        (folder / name).mkdir()
    np.save(folder / "photos" / "secret.npy", PRIVATE)
    (folder / "words.txt").write_text("ding\n")
    (folder / "classes.txt").write_text("cat\ndog\nbird\nfish\n")
    (folder / "legal" / "LicenseRef-Ours.txt").write_text("Do what you like.\n")
    (folder / "tiny.yaml").write_text(PROFILE)
    new_key(folder / "key")
    build(folder)
    return folder


@pytest.fixture(autouse=True)
def uncounted(project: Path) -> None:
    """Let every test begin before the first release."""
    (project / COUNTED).unlink(missing_ok=True)


def build(folder: Path, *sets: str) -> None:
    """Build the project."""
    api.build(
        api.Request(profile=folder / "tiny.yaml", sets=sets),
        api.BuildOptions(output=folder / "build", store=folder / "store", jobs=1),
    )


def released(folder: Path, *sets: str, **options: Any) -> api.Released:
    """Release the project."""
    return api.release(
        api.Request(profile=folder / "tiny.yaml", sets=sets),
        api.ReleaseOptions(
            **{
                "output": folder / "build",
                "store": folder / "store",
                "key": folder / "key",
                "counter": 1,
                **options,
            }
        ),
        EventLog(),
    )


def trusted(folder: Path) -> dict[str, bytes]:
    """Return the project's key."""
    public = read_public_key(folder / "key.pub")
    return {key_id(public): public}


def golden(bundle: Bundle, folder: Path) -> dict[str, np.ndarray]:
    """Return the first golden input of a bundle."""
    (model,) = bundle.release.target(TARGET).models
    assert model.golden is not None
    folder.mkdir()
    for name in ("index.json", "tensors.bin"):
        (folder / name).write_bytes(bundle.read(f"{model.golden.inputs}/{name}"))
    return dict(next(iter(PackReader(folder))).tensors())


def test_a_release_holds_what_apps_and_auditors_need(project: Path, tmp_path: Path) -> None:
    made = released(project)
    with open_bundle(made.path, trusted(project)) as bundle:
        release = bundle.release
        assert {file.path: file.role for file in release.files if file.role != "golden"} == {
            "LICENSES/LicenseRef-Ours.txt": "licence",
            "bom.cdx.json": "sbom",
            "files/words.txt": "file",
            "labels/main.txt": "labels",
            f"{TARGET}/main/model.ort": "model",
            "provenance.intoto.json": "provenance",
        }
        assert {item.part: item.spdx for item in release.licences} == {
            "files": "MIT",
            "model main": "LicenseRef-Ours OR MIT",
        }
        (model,) = release.target(TARGET).models
        assert model.labels == "labels/main.txt"
        assert bundle.read(model.labels) == b"cat\ndog\nbird\nfish\n"
        assert {figure.name for figure in model.figures} == {"agreement", "cosine y"}
        assert made.to_json()["not_judged"] == [
            f"main on {TARGET}: latency_p50: there is no bench record"
        ]
        bom = bundle.read("bom.cdx.json").decode()
        assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(bom) is None
        statement = json.loads(bundle.read("provenance.intoto.json"))
        subjects = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
        assert subjects == {
            file.path: file.sha256
            for file in release.files
            if file.role not in ("sbom", "provenance")
        }
        assert (golden(bundle, tmp_path / "golden")["x"] != PRIVATE).all()
        measured = read_measurements(bundle, trusted(project))
        assert measured is not None
        (item,) = measured.measured
        assert (item.bench, item.artifact) == (None, model.artifact)
        assert [(gate.gate, gate.state) for gate in item.gates if gate.gate == "latency_p50"] == [
            ("latency_p50", "not judged")
        ]
        assert {gate.state for gate in model.gates if gate.gate == "latency_p50"} == {"measured"}
    assert PRIVATE.tobytes() not in made.path.read_bytes()
    assert b"secret" not in made.path.read_bytes()


def test_what_was_measured_changes_no_byte_of_a_bundle(project: Path) -> None:
    """As after a run of `bench`: other figures, other verdicts of the gates on time."""
    before = released(project).path.read_bytes()
    place = project / "build" / "tiny" / "build.json"
    kept = place.read_text()
    document = json.loads(kept)
    gates = document["models"][0]["targets"][0]["gates"]
    (latency,) = [gate for gate in gates if gate["gate"] == "latency_p50"]
    latency.update(state="passed", value="12.5 ms", evidence="host-runtime", reason="n = 512")
    place.write_text(json.dumps(document))
    try:
        made = released(project)
    finally:
        place.write_text(kept)
    assert made.not_judged == ()
    assert made.path.read_bytes() == before
    with open_bundle(made.path, trusted(project)) as bundle:
        measured = read_measurements(bundle, trusted(project))
    assert measured is not None
    assert [gate.value for gate in measured.measured[0].gates if gate.value] == ["12.5 ms"]


def test_real_golden_inputs_travel_where_the_profile_says_so(project: Path, tmp_path: Path) -> None:
    output = tmp_path / "build"
    output.symlink_to(project / "build")
    made = released(project, "release.golden=evaluate")
    with open_bundle(made.path, trusted(project)) as bundle:
        assert (golden(bundle, tmp_path / "golden")["x"] == PRIVATE).all()


def test_what_a_gate_refused_is_taken_on_demand_alone_and_told(project: Path) -> None:
    gate = "gates.size=1 B"
    build(project, gate)
    try:
        assert refused(project, gate) == "E439"
        made = released(project, gate, unaccepted=True)
        assert made.release.unaccepted == (f"main -> {TARGET}: size (limit <= 1 B)",)
        (model,) = made.release.target(TARGET).models
        assert {item.gate for item in model.gates if item.state == "refused"} == {"size"}
    finally:
        build(project)


def refused(folder: Path, *sets: str, **options: Any) -> str:
    """Return the code with which a release is refused; no bundle may be written."""
    for path in (folder / "build" / "tiny").glob("*.edpkg"):
        path.unlink()
    with pytest.raises(EdgedeployError) as error:
        released(folder, *sets, **options)
    assert not list((folder / "build" / "tiny").glob("*.edpkg"))
    return error.value.diagnostics[0].code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (('version: "1.2.0"\n', ""), "E737"),
        (('"1.2.0"', '"../1.2.0"'), "E737"),
        (("  licence: LicenseRef-Ours OR MIT\n", ""), "E756"),
        (("  files_licence: mit\n", ""), "E756"),
        (("LicenseRef-Ours OR MIT", "free for all"), "E757"),
        (("  texts: [legal/LicenseRef-Ours.txt]\n", ""), "E757"),
        (("legal/LicenseRef-Ours.txt", "outside/LicenseRef-Ours.txt"), "E442"),
        (("release:\n", "release:\n  deny: [MIT]\n"), "E758"),
        (("quantize: none", "quantize: fp16"), "E438"),
    ],
)
def test_what_a_release_lacks_is_named(
    project: Path, tmp_path: Path, change: tuple[str, str], code: str
) -> None:
    (tmp_path / "LicenseRef-Ours.txt").write_text("not yours\n")
    outside = project / "outside"
    outside.unlink(missing_ok=True)
    outside.symlink_to(tmp_path)
    changed = PROFILE.replace(*change)
    assert changed != PROFILE
    (project / "tiny.yaml").write_text(changed)
    try:
        assert refused(project) == code
    finally:
        (project / "tiny.yaml").write_text(PROFILE)


def test_a_release_gets_one_counter_for_ever(project: Path) -> None:
    first = released(project, counter=None)
    assert first.release.counter == 1
    assert released(project, counter=None).release == first.release
    assert refused(project, "release.golden=evaluate", counter=None) == "E749"
    second = 'version="1.3.0"'
    assert refused(project, second, counter=1) == "E749"
    assert released(project, second, counter=None).release.counter == 2
    assert released(project, counter=None).release == first.release, "also after a later one"
    assert COUNTED not in {file.path for file in first.release.files}


def test_what_fails_late_leaves_nothing_that_was_signed(project: Path, tmp_path: Path) -> None:
    """Neither a bundle nor packages nor a counter: it may be released again with other content."""
    old = released(project, counter=None).path.rename(tmp_path / "old.edpkg")
    folder, counted = project / "build" / "tiny", (project / COUNTED).read_bytes()
    shutil.rmtree(folder / "packages", ignore_errors=True)
    names = {path.name for path in folder.iterdir()}
    once = tmp_path / "once.py"
    once.write_text(SIGNS + "Path(__file__).unlink()\n")
    command = (sys.executable, str(once), str(project / "key"))
    second = {"counter": None, "key": project / "key.pub", "sign_command": command}
    assert refused(project, 'version="1.3.0"', **second) == "E744"
    assert not once.exists(), "the manifest was signed, the measurements were not"
    twice = {"counter": None, "delta_from": old, "delta_codec": "lzma"}
    assert refused(project, **twice) == "E774", "the same version"
    wheel = {"counter": None, "formats": ("oci", "wheel")}
    assert refused(project, 'version="1.3.a.b"', **wheel) == "E760"
    assert (project / COUNTED).read_bytes() == counted
    assert {path.name for path in folder.iterdir()} <= names | {"packages"}
    assert not list(folder.glob("packages/*"))


def test_a_release_of_another_time(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert released(project).release.created == "2023-11-14T22:13:20+00:00"
    for wrong in ("yesterday", "-5", "1.5", "\u0663", "9" * 17, "9" * 5000):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        assert refused(project) == "E100"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    (project / COUNTED).unlink()
    assert released(project).release.created is None


SIGNS = """\
import sys
from pathlib import Path
from edgedeploy.release.keys import read_signing_key
sys.stdout.buffer.write(read_signing_key(Path(sys.argv[1])).sign(sys.stdin.buffer.read()))
"""


def test_a_command_signs_the_same_bundle(project: Path) -> None:
    by_file = released(project).path.read_bytes()
    command = (sys.executable, "-c", SIGNS, str(project / "key"))
    made = released(project, key=project / "key.pub", sign_command=command)
    assert made.path.read_bytes() == by_file
    counted = (project / COUNTED).read_bytes()
    second = {"key": project / "key.pub", "counter": None, "sign_command": ("false",)}
    assert refused(project, 'version="1.3.0"', **second) == "E744"
    second["sign_command"] = ("true",)
    assert refused(project, 'version="1.3.0"', **second) == "E733"
    assert (project / COUNTED).read_bytes() == counted, "what failed was never released"


def test_a_second_key_signs_for_openssf_model_signing(project: Path, tmp_path: Path) -> None:
    """And one that cannot is found out before anything is written."""
    secret = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key = tmp_path / "ec"
    key.touch(mode=0o600)
    key.write_bytes(secret)
    assert refused(project, openssf_key=project / "key") == "E780"
    assert not (project / COUNTED).exists()
    made = released(project, openssf_key=key)
    assert made.model_signature is not None and made.model_signature.parent == made.path.parent
    statement = json.loads(
        base64.b64decode(json.loads(made.model_signature.read_bytes())["dsseEnvelope"]["payload"])
    )
    named = {item["name"]: item["digest"] for item in statement["predicate"]["resources"]}
    own = {"manifest.json", "manifest.dsse.json", "SHA256SUMS"}
    files = {file.path: file.sha256 for file in made.release.files}
    assert named.keys() == files.keys() | own and files.items() <= named.items()


def test_a_delta_leads_from_a_bundle_that_somebody_vouches_for(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key that signs, or one that the trust file believes; else nothing is written."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first = released(project, counter=None)
    old = first.path.rename(tmp_path / first.path.name)
    second = {"counter": None, "delta_from": old, "delta_codec": "lzma"}
    assert released(project, 'version="1.3.0"', **second).delta is not None
    new_key(tmp_path / "next")
    third = {**second, "key": tmp_path / "next"}
    counted = (project / COUNTED).read_bytes()
    assert refused(project, 'version="1.4.0"', **third) == "E736"
    assert (project / COUNTED).read_bytes() == counted
    trust = tmp_path / "edgedeploy" / "trust.json"
    api.enrol(trust, project / "key.pub", "acme")
    made = released(project, 'version="1.4.0"', **third, trust=trust)
    assert made.delta is not None and made.delta.path.is_file()
    made.delta.path.unlink()
    folders = ["-o", project / "build", "--store", project / "store"]
    files = ["--key", tmp_path / "next", "--delta-from", old, "--delta-codec", "lzma"]
    profile = [project / "tiny.yaml", "--set", 'version="1.4.0"']
    with pytest.raises(SystemExit) as ended:
        main(["release", *map(str, [*profile, *folders, *files])])
    assert not ended.value.code and made.delta.path.is_file(), "the trust file of the user"
    api.revoke(trust, key_id(read_public_key(project / "key.pub")), "stolen")
    assert refused(project, 'version="1.5.0"', **third, trust=trust) == "E746"
    assert len(json.loads((project / COUNTED).read_bytes())["profiles"]["tiny"]) == 3


def test_a_licence_may_be_denied_on_the_way(project: Path) -> None:
    assert refused(project, deny=("MIT",)) == "E758"


def test_what_no_gpu_made_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of the artifact says of itself that something stood for the GPU."""
    real = Store.read_action

    def simulated(self: Store, key: str) -> Any:
        found = real(self, key)
        if found is None or found.kind != "compile":
            return found
        return dataclasses.replace(found, summary={**found.summary, "simulated": True})

    monkeypatch.setattr(Store, "read_action", simulated)
    assert refused(project) == "E759"
