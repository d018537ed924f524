"""A worker's limits hold for the builder that it runs, and are told as those of the stage."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from onnx import helper, numpy_helper
from rtx_models import FLOAT, graph, numbers, save, tensor

from edgedeploy.errors import EdgedeployError
from edgedeploy.worker.launch import Job, run_job

pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT for RTX")

MIB = 1 << 20
ENOUGH = {"memory_bytes": 8 << 30, "cpu_s": 600, "file_bytes": 1 << 30, "deadline_s": 600}


def layers(count: int) -> Any:
    """A chain of convolutions, 2.25 MiB of weights each."""
    weights = [
        numpy_helper.from_array(numbers(256, 256, 3, 3) * 1e-3, f"w{it}") for it in range(count)
    ]
    nodes = [
        helper.make_node("Conv", [f"x{it}", f"w{it}"], [f"x{it + 1}"], name=f"conv{it}")
        for it in range(count)
    ]
    given = [tensor("x0", FLOAT, [1, 256, 32, 32])]
    side = 32 - 2 * count
    return graph(nodes, given, [tensor(f"x{count}", FLOAT, [1, 256, side, side])], weights)


def run(folder: Path, **limits: float) -> dict[str, Any]:
    """Run the stage ``compile`` in a worker."""
    for name in ("artifact", "report", "work"):
        (folder / name).mkdir()
    gpu = {"compute_capabilities": ["8.9"], "source": ""}
    job = Job(
        node="main.compile",
        kind="compile",
        params={"runtime": "tensorrt-rtx", "options": {}, "ranges": {}},
        inputs={"model": save(layers(8), folder / "model").parent},
        outputs={"artifact": folder / "artifact", "report": folder / "report"},
        fields={"board.gpu": gpu},
        limits={**ENOUGH, **limits},
        project=folder,
        folder=folder / "work",
    )
    return run_job(job, stop=threading.Event())


def test_within_its_limits_a_stage_makes_an_engine(tmp_path: Path) -> None:
    assert run(tmp_path)["summary"]["entry"] == "model.engine"
    assert (tmp_path / "artifact/model.engine").stat().st_size > MIB


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"memory_bytes": 200 * MIB}, "E382"),
        ({"file_bytes": 1 * MIB}, "E385"),
        ({"deadline_s": 0.1}, "E386"),
    ],
)
def test_beyond_them_it_ends_by_name(limits: dict[str, float], code: str, tmp_path: Path) -> None:
    with pytest.raises(EdgedeployError) as caught:
        run(tmp_path, **limits)
    assert caught.value.diagnostics[0].code == code, str(caught.value)
