"""Every real model in every number representation for both targets, and the largest nasty kinds.

Prints the table that docs and reviews quote; run with ``-s``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from nasty import NASTY, sparse_weights

from tests.flow.running import check_published, cosines, edgedeploy, targets_of
from tests.flow.zoo import MODELS, TARGETS, write_profile

MODES = ("none", "fp16", "w8a8", "auto")
# Lowest cosine of any output with the float model's; what a user would call the same model.
FLOORS = {"none": 0.9999, "fp16": 0.999, "w8a8": 0.95, "auto": 0.95}
# Its logits are 5e9 by constant weights: the order of additions decides the softmax.
ILL_CONDITIONED = "squeezenet"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize("mode", MODES)
def test_every_model(mode: str, tmp_path: Path, store: Path) -> None:
    profile = write_profile(tmp_path, "zoo", MODELS, quantize=mode)
    run = edgedeploy("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
    targets = targets_of(tmp_path / "build/zoo")
    assert len(targets) == len(MODELS) * len(TARGETS)
    print(f"\n{'model':<12}{'target':<20}{'mode':<6}{'chosen':<18}verdict   cosine     metric  kB")
    built = {}
    for (name, target), said in targets.items():
        parity = min(cosines(said).values()) if said["evaluation"] else float("nan")
        metric = (said["evaluation"] or {}).get("metric")
        value = f"{metric['value']:.4g}" if metric else "-"
        print(
            f"{name:<12}{target:<20}{mode:<6}{said['chosen'] or '-':<18}{said['verdict']:<10}"
            f"{parity:.6f}  {value:>7}  {(said['size_bytes'] or 0) // 1000}"
        )
        for item in said["diagnostics"]:
            print(f"    {item['code']} {item.get('subject')}: {item['message'][:160]}")
            assert item["hint"]
        if said["verdict"] == "failed":
            continue
        built[name, target] = said
        if name != ILL_CONDITIONED and said["verdict"] == "accepted":
            assert parity >= FLOORS[mode]
    check_published(tmp_path / "build/zoo", sizes=built)
    assert run.code in (0, 1)


def test_twenty_thousand_nodes(tmp_path: Path, store: Path) -> None:
    NASTY["long_chain"](tmp_path)
    profile = write_profile(tmp_path, "chain", {"main": {"source": "model.onnx"}}, quantize="none")
    run = edgedeploy("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
    assert run.code == 0, run.err
    for said in targets_of(tmp_path / "build/chain").values():
        assert min(cosines(said).values()) > 0.9999


def test_more_than_two_gigabytes(tmp_path: Path, store: Path) -> None:
    """OpenVINO builds it; an .ort file cannot hold it, and the refusal says so."""
    sparse_weights(tmp_path)
    model = {"source": "model.onnx", "dims": {"N": 2}}
    profile = write_profile(tmp_path, "huge", {"main": model}, quantize="none")
    run = edgedeploy("build", profile, "-o", tmp_path / "build", "--store", store, "--no-bench")
    targets = targets_of(tmp_path / "build/huge")
    said = targets["main", TARGETS[0]]["diagnostics"]
    assert [item["code"] for item in said] == ["E314"] and said[0]["hint"]
    assert targets["main", TARGETS[1]]["verdict"] == "accepted"
    assert run.code == 3
