"""Options of a profile for TensorRT, checked before a device is asked."""

from typing import Any

import pytest
import yaml
from trt_commands import CHOICES, DEFAULTS

from edgedeploy.backends.trt.settings import KNOWN, WORDS, check_types, settings
from edgedeploy.errors import BuildError
from edgedeploy.target.library import TargetLibrary

ORIN = {"compute_capabilities": ["8.7"], "dla_cores": 2}
NANO = {"compute_capabilities": ["8.7"]}
SERVER = {"compute_capabilities": ["8.0", "8.9", "9.0"]}
TURING = {"compute_capabilities": ["7.5"]}


def checked(gpu: dict[str, Any], versions: str = ">=8.6", **options: Any) -> dict[str, Any]:
    return settings(options, {"board.gpu": gpu, "runtime.versions": versions})


def refusal(gpu: dict[str, Any], versions: str = ">=8.6", **options: Any) -> tuple[str, str]:
    with pytest.raises(BuildError) as raised:
        checked(gpu, versions, **options)
    item = raised.value.diagnostics[0]
    assert item.hint
    return item.code, item.message


def test_the_defaults_are_those_that_recipes_of_the_tests_have() -> None:
    assert checked(NANO) == {**DEFAULTS, "buckets": "apart", "opt": {}}
    assert set(CHOICES) < set(KNOWN) == set(WORDS)


def test_the_target_file_states_the_same_options() -> None:
    """Names, values and defaults, so that a profile is checked by what the backend takes."""
    target = TargetLibrary().load("jetson-orin-nano/tensorrt")
    told = target.get("runtime.options")
    assert set(told) == set(KNOWN)
    for name, value in KNOWN.items():
        default = value[0] if isinstance(value, tuple) else value
        # Numbers of targets are facts with sources, so the backend alone has those defaults.
        assert told[name]["default"] in (default, None), name
        if isinstance(value, tuple):
            assert told[name]["values"] == list(value)


def test_values_are_brought_to_one_form() -> None:
    found = checked(ORIN, workspace="1.5 GiB", dla=1, dla_fallback=True)
    assert found["workspace"] == 1536 << 20
    assert (found["dla"], found["dla_fallback"]) == (1, True)
    assert checked(NANO, dla=-1)["dla"] is None


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"workspace": "1 kB"}, "E338"),
        ({"workspace": "lots"}, "E310"),
        ({"opt": "width"}, "E310"),
        ({"optimisation_level": 6}, "E310"),
        ({"optimisation_level": -1}, "E310"),
        ({"dla": True}, "E310"),
        ({"hardware_compatible": "turing"}, "E310"),
        ({"fp16": True}, "E310"),
        ({"compile_on": "cloud"}, "E310"),
        ({"dla": 2}, "E338"),
        ({"dla_fallback": True}, "E338"),
        ({"hardware_compatible": "ampere+"}, "E338"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], code: str) -> None:
    assert refusal(ORIN, **options)[0] == code


def test_options_are_checked_against_the_board() -> None:
    assert refusal(NANO, dla=0) == (
        "E338",
        "the board has no DLA core, and core 0 is asked for",
    )
    assert "7.5" in refusal(TURING, sparsity=True)[1]
    assert refusal(TURING, hardware_compatible="ampere+")[0] == "E338"
    assert checked(SERVER, sparsity=True, hardware_compatible="ampere+")
    assert checked(TURING, hardware_compatible="same-compute-capability")


def test_options_are_checked_against_the_releases_of_the_target() -> None:
    """The board's own release is asked later; one that no release has is refused at once."""
    assert checked(ORIN, ">=10,<11", dla=0)
    code, message = refusal(ORIN, ">=11,<11.4", dla=0)
    assert code == "E336" and message.startswith("dla: TensorRT 11.0")
    assert checked(ORIN, ">=11", dla=0)
    assert refusal(SERVER, ">=8.6,<10", hardware_compatible="same-compute-capability")[0] == "E336"


def test_a_dla_core_needs_a_typed_graph() -> None:
    with pytest.raises(BuildError) as raised:
        check_types(checked(ORIN, dla=0), ("float32",))
    assert raised.value.diagnostics[0].code == "E338"
    check_types(checked(ORIN, dla=0), ("float16", "float32"))
    check_types(checked(ORIN), ("float32",))


def test_yaml_writes_the_options_as_they_are_checked() -> None:
    """What YAML makes of a profile's words has the types that are asked for."""
    options = yaml.safe_load("{dla: 0, workspace: 1 GiB, tf32: true, optimisation_level: 5}")
    assert checked(ORIN, **options)["workspace"] == 1 << 30
