"""Real models through the whole build, for both backends, with parity shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from running import check_published, cosines, edgedeploy, targets_of
from zoo import MODELS, TARGETS, write_profile

pytestmark = pytest.mark.slow

# 32 MB; tests/soak builds it.
LARGE = ("densenet121",)
# Constant weights drive its logits to 5e9, where the order of additions decides the softmax.
ILL_CONDITIONED = ("squeezenet", "intel-cpu/openvino")
QUANTIZED = ("silero", "magika", "cls", "pnet")
HALVED = ("cls", "onet")
# Rounded with more care, no layer need stay in float.
PLAIN = {"mode": "auto", "rounding": "nearest", "bias_correction": False, "smooth": False}


@dataclass(frozen=True, kw_only=True)
class Built:
    code: int
    folder: Path
    targets: dict[tuple[str, str], dict[str, Any]]


def _built(base: Path, store: Path, mode: str, names: tuple[str, ...], **words: Any) -> Built:
    models = {name: MODELS[name] for name in names}
    profile = write_profile(base, f"zoo-{mode}", models, quantize=mode, **words)
    run = edgedeploy("build", profile, "-o", base / "build", "--store", store, "--no-bench")
    folder = base / "build" / f"zoo-{mode}"
    return Built(code=run.code, folder=folder, targets=targets_of(folder))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Built:
    names = tuple(name for name in MODELS if name not in LARGE)
    return _built(tmp_path_factory.mktemp("zoo"), store, "none", names)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE])
def test_float_builds_and_answers_as_the_model(plain: Built, name: str, target: str) -> None:
    said = plain.targets[name, target]
    if (name, target) == ILL_CONDITIONED:
        assert said["verdict"] == "refused"
        gate = next(gate for gate in said["gates"] if gate["gate"] == "parity")
        assert gate["state"] == "refused" and "softmaxout_1" in gate["reason"]
        return
    assert said["verdict"] == "accepted" and said["chosen"] == "float"
    assert said["arithmetic"] is None
    found = cosines(said)
    assert found and min(found.values()) > 0.9999
    assert said["evaluation"]["n"] >= 6


def test_every_float_artifact_is_published_and_loads(plain: Built) -> None:
    assert plain.code == 1  # the one refusal above; what is refused is kept
    assert len(plain.targets) == 2 * (len(MODELS) - len(LARGE))
    check_published(plain.folder, sizes=plain.targets)


def test_state_is_carried_over(plain: Built) -> None:
    """The state output moves over a sequence, so equal outputs mean that it was fed back."""
    for target in TARGETS:
        said = plain.targets["silero", target]
        assert cosines(said).keys() == {"output", "stateN"}
        ranges = {item["output"]: item["stats"] for item in said["evaluation"]["parity"]}
        assert ranges["stateN"]["reference_high"] > 0.5
        assert ranges["output"]["reference_high"] - ranges["output"]["reference_low"] > 0.2


def test_float_keeps_the_metric(plain: Built) -> None:
    for target in TARGETS:
        assert plain.targets["rec", target]["evaluation"]["metric"]["value"] < 0.02
        assert plain.targets["magika", target]["evaluation"]["metric"]["value"] > 0.8
        assert plain.targets["cls", target]["evaluation"]["metric"]["value"] == 1.0


def test_int8_builds(plain: Built, tmp_path: Path, store: Path) -> None:
    """The models of the stock quantizer's failures: old opsets, weights in constants, tf2onnx."""
    built = _built(tmp_path, store, "w8a8", QUANTIZED)
    assert built.code == 0
    for (name, target), said in built.targets.items():
        assert said["chosen"] == "w8a8"
        assert min(cosines(said).values()) > (0.97 if name == "silero" else 0.98), (name, target)
        counts = said["arithmetic"]
        # OpenVINO has no integer LSTM, the one layer that stays in float.
        left = ["ref_any_f32"] if (name, target) == ("silero", "intel-cpu/openvino") else []
        assert [layer["op"] for layer in counts["float_layers"]] == left, (name, target)
        assert counts["integer_macs"] >= 0.8 * counts["macs"] > 0
        float_size = plain.targets[name, target]["size_bytes"]
        if name in ("silero", "magika"):
            assert said["size_bytes"] < 0.75 * float_size
    for target in TARGETS:
        assert built.targets["magika", target]["evaluation"]["delta"]["value"] == 0.0
    check_published(built.folder, sizes=built.targets)


def test_fp16_builds(plain: Built, tmp_path: Path, store: Path) -> None:
    built = _built(tmp_path, store, "fp16", HALVED)
    assert built.code == 0
    for (name, target), said in built.targets.items():
        assert said["chosen"] == "fp16"
        assert min(cosines(said).values()) > 0.9999
        assert said["size_bytes"] < 0.9 * plain.targets[name, target]["size_bytes"]
    check_published(built.folder, sizes=built.targets)


def test_auto_keeps_in_float_what_the_gate_needs(tmp_path: Path, store: Path) -> None:
    """All layers in integers fail the gate; some of them do not, and the lock file repeats that."""
    profile = write_profile(
        tmp_path, "mixed", {"onet": MODELS["onet"]}, quantize=PLAIN, gates={"cosine": 0.9995}
    )
    options = ("-o", tmp_path / "build", "--store", store, "--no-bench", "-t", "intel-cpu/*")
    run = edgedeploy("build", profile, *options)
    assert run.code == 0, run.err
    said = targets_of(tmp_path / "build/mixed")["onet", "intel-cpu/openvino"]
    trail = {item["name"]: item["state"] for item in said["candidates"]}
    assert trail["w8a8"] == "refused"
    assert "-keep-" in said["chosen"] and trail[said["chosen"]] == "chosen"
    assert said["verdict"] == "accepted"
    kept = said["arithmetic"]["layers"] - said["arithmetic"]["integer_layers"]
    assert kept == int(said["chosen"].rpartition("-")[2])
    ranked = said["sensitivity"]["layers"]
    assert [row["sqnr_db"] for row in ranked] == sorted(row["sqnr_db"] for row in ranked)
    assert sum(row["multiply_adds"] for row in ranked) == pytest.approx(1.0)
    assert edgedeploy("build", profile, *options).out == run.out  # nothing was looked at again
    elsewhere = (tmp_path / "elsewhere" if item == tmp_path / "build" else item for item in options)
    again = edgedeploy("build", profile, *elsewhere)
    assert again.code == 0 and "Stages: 0 run" in again.out
    shown = edgedeploy("inspect", tmp_path / "build/mixed")
    assert shown.code == 0 and ranked[0]["node"] in shown.out
    data = edgedeploy("inspect", tmp_path / "build/mixed", "--json").document
    assert data["layers"][0]["sensitivity"]["layers"] == ranked


def test_a_lock_file_holds_what_a_search_found(tmp_path: Path, store: Path) -> None:
    model = {"onet": MODELS["onet"]}
    words = {"quantize": PLAIN, "gates": {"cosine": 0.9995}, "targets": ["intel-cpu/openvino"]}
    profile = write_profile(tmp_path, "locked", model, **words)
    options = ("--store", store, "--no-bench", "-o")
    assert edgedeploy("build", profile, *options, tmp_path / "one").code == 0
    lock = json.loads((tmp_path / "edgedeploy.lock").read_text())["profiles"]["locked"]
    (scheme,) = lock["schemes"].values()
    assert len(scheme["keep_float"]) >= 1
    fresh = ("--store", tmp_path / "fresh", "--no-bench", "-o")
    run = edgedeploy("build", profile, "--locked", *fresh, tmp_path / "two")
    assert run.code == 0, run.err
    one, two = (
        targets_of(tmp_path / name / "locked")["onet", "intel-cpu/openvino"]
        for name in ("one", "two")
    )
    assert two["files"] == one["files"]
    assert [item["name"] for item in two["candidates"]] == [one["chosen"]]
    assert two["sensitivity"] is None  # the search is not made again


def test_auto_ships_what_passes_when_no_integers_do(tmp_path: Path, store: Path) -> None:
    built = _built(tmp_path, store, "auto", ("onet",), gates={"cosine": 0.99999999})
    assert built.code == 0
    for said in built.targets.values():
        assert said["chosen"] == "float"
        states = {item["name"]: item["state"] for item in said["candidates"]}
        assert states.pop("float") == "chosen"
        assert states["w8a8"] == states["fp16"] == "refused"
        assert set(states.values()) <= {"refused", "skipped"}


def test_each_bucket_gets_the_samples_of_its_size(tmp_path: Path, store: Path) -> None:
    data = {
        role: {
            "source": "flow_samples.py:widths",
            "parameters": {"name": "x", "height": 48, "sizes": [96, 192], "seed": seed},
        }
        for role, seed in (("calibrate", 1), ("evaluate", 2))
    }
    model = {**MODELS["cls"], "inputs": {"x": {"shape": [1, 3, 48, [96, 192]]}}, "data": data}
    profile = write_profile(tmp_path, "buckets", {"cls": model}, quantize="none")
    run = edgedeploy("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
    assert run.code == 0, run.err
    targets = targets_of(tmp_path / "build/buckets")
    assert {name for name, _ in targets} == {"cls[x[3]=96]", "cls[x[3]=192]"}
    for said in targets.values():
        assert said["verdict"] == "accepted" and said["evaluation"]["n"] == 3
    check_published(tmp_path / "build/buckets", sizes=targets)


def test_a_bucket_without_samples_is_refused(tmp_path: Path, store: Path) -> None:
    model = {
        **MODELS["cls"],
        "inputs": {"x": {"shape": [1, 3, 48, "W"]}},
        "dims": {"W": [160, 192]},
    }
    profile = write_profile(tmp_path, "bare", {"cls": model}, quantize="none")
    run = edgedeploy("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
    targets = targets_of(tmp_path / "build/bare")
    for target in TARGETS:
        assert targets["cls[W=192]", target]["verdict"] == "accepted"
        said = targets["cls[W=160]", target]["diagnostics"]
        assert [item["code"] for item in said] == ["E251"] and said[0]["hint"]
    assert run.code == 2


def test_a_range_reaches_the_artifact(tmp_path: Path, store: Path) -> None:
    """OpenVINO bounds the dim, and samples outside are refused."""
    words = {"name": "x", "height": 48, "seed": 3}
    model = {
        **MODELS["cls"],
        "inputs": {"x": {"shape": [1, 3, 48, "96..192/32"]}},
        "data": {
            "evaluate": {
                "source": "flow_samples.py:widths",
                "parameters": {**words, "sizes": [96, 128, 192]},
            }
        },
    }
    profile = write_profile(tmp_path, "ranged", {"cls": model}, quantize="none")
    arguments = ("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
    run = edgedeploy(*arguments)
    assert run.code == 0, run.err
    place = tmp_path / "build/ranged/cls"
    assert 'shape="1,3,48,96..192"' in (place / "intel-cpu/openvino/model.xml").read_text()
    for said in targets_of(tmp_path / "build/ranged").values():
        assert said["evaluation"]["n"] == 9 and min(cosines(said).values()) > 0.9999
    other = "models.cls.data.evaluate.parameters.sizes"
    for size in (100, 224):
        run = edgedeploy(*arguments, "--set", f"{other}=[{size}]", "--json")
        assert run.code == 2
        assert "E257" in run.err
