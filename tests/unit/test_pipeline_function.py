"""A pipeline's function: what it may call, what it may return, and whose fault is told how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedeploy.errors import DataError
from edgedeploy.pipeline import Loaded, Model, Models, Pipeline
from edgedeploy.profile.dims import parse_dim
from edgedeploy.signature import Signature, TensorSpec

X = np.ones((1, 4), np.float32)


class Doubles:
    """Answers twice what it is given, and counts in a state."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = {"y": inputs["x"] * 2}
        if "count" in inputs:
            found["counted"] = inputs["count"] + 1
            found["y"] = found["y"] + inputs["count"]
        return found


def loaded(*dims: int | str, name: str = "doubler") -> Loaded:
    """Return a model of one input of some dims."""
    spec = TensorSpec(name="x", dtype="float32", dims=dims or (1, 4))
    signature = Signature(inputs=(spec,), outputs=(replace(spec, name="y"),))
    return Loaded(name=name, runs=Doubles(), signature=signature)


def with_state() -> Loaded:
    """Return the model with its counter, a state."""
    one = loaded()
    state = TensorSpec(name="count", dtype="float32", dims=(1, 1))
    signature = Signature(
        inputs=(*one.signature.inputs, state),
        outputs=(*one.signature.outputs, replace(state, name="counted")),
    )
    zeros = {"count": np.zeros((1, 1), np.float32)}
    return replace(one, signature=signature, state=[("count", "counted")], zeros=zeros)


def models(*variants: Loaded) -> Models:
    """Return models of which one is called ``doubler``."""
    return Models({"doubler": Model("doubler", variants or (loaded(),), {"author": "me"})})


def pipeline(folder: Path, body: str, head: str = "def read(inputs, models):") -> Pipeline:
    """Return a pipeline of some lines."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / "reading.py").write_text(f"import numpy as np\n{head}\n{lines}")
    return Pipeline("reading.py:read", folder)


def refusal(folder: Path, body: str, *variants: Loaded) -> tuple[str, str, int | None]:
    """Return code, message and line of what becomes of a function of some lines."""
    function = pipeline(folder, body)
    with pytest.raises(DataError) as error:
        function.run({"x": X}, models(*variants), "one")
    (found,) = error.value.diagnostics
    return found.code, found.message, found.place.line if found.place else None


def test_it_calls_models_by_name_and_returns_arrays(tmp_path: Path) -> None:
    """Numbers, booleans and texts; a model's metadata stand beside it."""
    body = (
        "y = models.doubler(x=inputs['x'])['y']\n"
        "return {'y': y, 'same': models['doubler'](x=y)['y'] > 3,\n"
        "        'who': models.doubler.metadata['author'], 'all': ['a', 'bc']}"
    )
    found = pipeline(tmp_path, body).run({"x": X}, models(), "one")
    np.testing.assert_array_equal(found["y"], X * 2)
    assert found["same"].dtype == bool and found["same"].all()
    assert found["who"].shape == () and found["who"].item() == "me"
    assert list(found["all"]) == ["a", "bc"] and found["all"].dtype == object


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        ("models.doubbler(x=inputs['x'])", "E883", "`doubbler`"),
        ("models.doubler(z=inputs['x'])", "E884", "it takes x, not z"),
        ("models.doubler()", "E884", "it takes x, not nothing"),
        ("models.doubler(x=[1.0])", "E884", "is a list"),
        ("models.doubler(x=inputs['x'].astype(float))", "E884", "is float64, not float32"),
        ("models.doubler(x=inputs['x'][0])", "E884", "has the shape [4], not [1, 4]"),
        ("models.doubler(x=inputs['x'][:, :3])", "E884", "has the shape [1, 3], not [1, 4]"),
        ("inputs['y']", "E881", "KeyError"),
        ("{}[1]\nraise SystemExit", "E881", "KeyError"),
        ("return np.zeros(3)", "E882", "a ndarray, not a dict"),
        ("return {}", "E882", "an empty dict"),
        ("return {'y': [[1], [1, 2]]}", "E882", "no array as 'y'"),
        ("return {'y': None}", "E882", "a NoneType as 'y'"),
        ("return {1: inputs['x']}", "E882", "as 1"),
    ],
)
def test_what_it_may_not_do_is_told_by_name(
    tmp_path: Path, call: str, code: str, said: str
) -> None:
    """What goes wrong inside of the function has its line, whoever finds it."""
    found, message, line = refusal(tmp_path, call)
    assert found == code and said in message
    assert line == (None if code == "E882" else 3)


def test_a_near_name_is_proposed(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        pipeline(tmp_path, "models.doubbler()").run({}, models(), "one")
    assert "did you mean `doubler`?" in str(error.value.diagnostics[0].hint)


def test_a_size_has_to_lie_in_its_range(tmp_path: Path) -> None:
    one = replace(loaded(1, "W"), dims={"W": parse_dim("8..32/8")})
    code, message, _ = refusal(tmp_path, "models.doubler(x=np.ones((1, 12), np.float32))", one)
    assert code == "E884" and "has the shape [1, 12], not [1, W: 8..32/8]" in message
    body = "return models.doubler(x=np.ones((1, 24), np.float32))"
    assert pipeline(tmp_path, body).run({}, models(one), "a")["y"].shape == (1, 24)


def test_one_name_is_one_size(tmp_path: Path) -> None:
    code, message, _ = refusal(
        tmp_path, "models.doubler(x=np.ones((2, 3), np.float32))", loaded("N", "N")
    )
    assert code == "E884" and "[2, 3], not [N, N]" in message


def test_the_variant_that_fits_answers(tmp_path: Path) -> None:
    variants = [loaded(1, size, name=f"doubler[W={size}]") for size in (4, 8)]
    called: list[str] = []
    both = Models(
        {"doubler": Model("doubler", variants, on_call=lambda name, *_: called.append(name))}
    )
    body = "models.doubler(x=np.ones((1, 8), np.float32))\nreturn models.doubler(x=inputs['x'])"
    pipeline(tmp_path, body).run({"x": X}, both, "one")
    assert called == ["doubler[W=8]", "doubler[W=4]"]
    code, message, _ = refusal(tmp_path, "models.doubler(x=np.ones((1, 5), np.float32))", *variants)
    assert code == "E884" and "none of doubler[W=4], doubler[W=8] fits" in message


def test_state_is_fed_by_itself_and_starts_anew_with_a_sequence(tmp_path: Path) -> None:
    """Within a sample and from sample to sample of a sequence it is carried."""
    body = (
        "first = models.doubler(x=inputs['x'])\n"
        "assert list(first) == ['y']\n"
        "return {'y': models.doubler(x=inputs['x'])['y'][0, 0]}"
    )
    function, both = pipeline(tmp_path, body), models(with_state())
    found = [function.run({"x": X}, both, name)["y"].item() for name in ("a", "a", "b")]
    assert found == [3, 5, 3]


def test_a_function_takes_inputs_and_models(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        pipeline(tmp_path, "return {}", head="def read(inputs):")
    assert error.value.diagnostics[0].code == "E880"


def test_a_file_that_raises_is_told_as_the_users(tmp_path: Path) -> None:
    (tmp_path / "reading.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(DataError) as error:
        Pipeline("reading.py:read", tmp_path)
    (found,) = error.value.diagnostics
    assert found.code == "E881" and str(found.place) == "reading.py:1:1"
