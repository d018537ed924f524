"""The engine of the MIL interpreter: scopes, types, memory, states and errors."""

import tracemalloc

import numpy as np
import pytest

from edgedeploy.errors import EdgedeployError
from edgedeploy.mil.interpreter import Interpreter
from edgedeploy.mil.program import ListType, Named, TensorType
from tests.unit.mil.programs import block, call, const, machine, program, state, tensor


def code_of(error):
    return [item.code for item in error.value.diagnostics]


def test_float16_is_rounded_after_every_operation():
    """2048 + 1 is 2048 in float16, so that adding 1 twice changes nothing; 2 at once does."""
    steps = [
        call("add", tensor("a", 1, dtype="float16"), x="x", y="one"),
        call("add", tensor("b", 1, dtype="float16"), x="a", y="one"),
    ]
    made = machine(
        [tensor("x", 1, dtype="float16")], [const("one", np.float16(1)), *steps], ["b"]
    ).run({"x": np.array([2048], np.float16)})
    assert made["b"].dtype == np.float16
    assert made["b"] == 2048


def test_float16_accumulates_in_float32():
    """The sum of 4096 ones would stop at 2048 if every addition were rounded."""
    steps = [call("reduce_sum", tensor("s", dtype="float16"), x="x")]
    made = machine([tensor("x", 4096, dtype="float16")], steps, ["s"])
    assert made.run({"x": np.ones(4096, np.float16)})["s"] == 4096


def test_float16_overflows_as_float16_does():
    steps = [call("mul", tensor("y", 1, dtype="float16"), x="x", y="x")]
    made = machine([tensor("x", 1, dtype="float16")], steps, ["y"])
    assert np.isinf(made.run({"x": np.array([300], np.float16)})["y"])


def test_an_input_may_be_an_output():
    made = machine([tensor("x", 2, dtype="float16")], [], ["x"])
    given = np.array([1, 2], np.float16)
    assert made.run({"x": given})["x"].dtype == np.float16


def test_values_are_dropped_after_their_last_use():
    """A chain of 50 steps on 1 MB holds a few of them at a time, not all."""
    size = 1 << 18
    steps = [call("add", tensor(f"v{i + 1}", size), x=f"v{i}", y=np.float32(1)) for i in range(50)]
    made = machine([tensor("v0", size)], steps, ["v50"])
    given = {"v0": np.zeros(size, np.float32)}
    tracemalloc.start()
    found = made.run(given)["v50"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[0] == 50
    assert peak < 4 * given["v0"].nbytes


def test_a_value_that_nothing_uses_is_dropped_and_its_sibling_kept():
    steps = [
        call("split", tensor("a", 2), tensor("b", 2), x="x", axis=0, num_splits=2),
        call("add", tensor("y", 2), x="b", y="b"),
    ]
    made = machine([tensor("x", 4)], steps, ["y"])
    assert made.run({"x": np.arange(4, dtype=np.float32)})["y"].tolist() == [4, 6]


def loop(limit):
    """Return x doubled, and a counter, until the counter reaches the limit (a value outside)."""
    variables = [tensor("i", dtype="int32"), tensor("v", 2)]
    condition = block(
        [call("less", tensor("go", dtype="bool"), x="i", y="limit")], ["go"], variables
    )
    steps = [
        call("add", tensor("i_next", dtype="int32"), x="i", y=np.int32(1)),
        call("mul", tensor("v_next", 2), x="v", y="factor"),
    ]
    body = block(steps, ["i_next", "v_next"], variables)
    return [
        const("limit", np.int32(limit)),
        const("zero", np.int32(0)),
        const("factor", np.float32(2)),
        call(
            "while_loop",
            tensor("count", dtype="int32"),
            tensor("result", 2),
            blocks=[condition, body],
            loop_vars=["zero", "x"],
        ),
    ]


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_while_loop_runs_until_its_condition_fails(limit):
    made = machine([tensor("x", 2)], loop(limit), ["result", "count"])
    found = made.run({"x": np.array([1, 3], np.float32)})
    assert found["result"].tolist() == [2.0**limit, 3 * 2.0**limit]
    assert found["count"] == limit


def branch(inner):
    """Return a cond whose blocks add or use ``inner``, seeing values from outside."""
    plus = block([call("add", tensor("t", 2), x="x", y="outside")], ["t"])
    return [
        call("mul", tensor("outside", 2), x="x", y=np.float32(10)),
        call("cond", tensor("y", 2), blocks=[plus, block([], [inner])], pred="pred"),
    ]


@pytest.mark.parametrize(("pred", "wanted"), [(True, [11, 22]), (False, [10, 20])])
def test_cond_runs_one_branch_and_may_return_a_value_from_outside(pred, wanted):
    made = machine([tensor("x", 2), tensor("pred", dtype="bool")], branch("outside"), ["y"])
    found = made.run({"x": np.array([1, 2], np.float32), "pred": np.array(pred)})
    assert found["y"].tolist() == wanted


def test_a_branch_runs_only_when_it_is_taken():
    """The other one would fail."""
    wrong = block([call("reshape", tensor("t", 5), x="x", shape=[np.array([5])])], ["t"])
    right = block([call("identity", tensor("u", 2), x="x")], ["u"])
    steps = [call("cond", tensor("y", 2), blocks=[right, wrong], pred="pred")]
    made = machine([tensor("x", 2), tensor("pred", dtype="bool")], steps, ["y"])
    given = {"x": np.array([1, 2], np.float32)}
    assert made.run({**given, "pred": np.array(True)})["y"].tolist() == [1, 2]
    with pytest.raises(EdgedeployError, match="reshape") as error:
        made.run({**given, "pred": np.array(False)})
    assert code_of(error) == ["E362"]


def test_lists_are_values_like_any_other():
    kind = ListType(TensorType("float32", (2,)))
    steps = [
        call("make_list", Named("a", kind), init_length=np.int32(1), elem_shape=[2]),
        call("list_write", Named("b", kind), ls="a", index=np.int32(1), value="x"),
        call("list_write", Named("c", kind), ls="b", index=np.int32(0), value="x"),
        call("list_read", tensor("before", 2), ls="b", index=np.int32(0)),
        call("list_gather", tensor("all", 2, 2), ls="c", indices=np.array([1, 0])),
        call("list_length", tensor("n", dtype="int32"), ls="c"),
        call("list_scatter", Named("d", kind), ls="c", indices=np.array([1, 2]), value="rows"),
        call("list_gather", tensor("last", 3, 2), ls="d", indices=np.array([0, 1, 2])),
    ]
    made = machine([tensor("x", 2), tensor("rows", 2, 2)], steps, ["before", "all", "n", "last"])
    rows = np.array([[5, 6], [7, 8]], np.float32)
    found = made.run({"x": np.array([1, 2], np.float32), "rows": rows})
    assert found["before"].tolist() == [0, 0]
    assert found["all"].tolist() == [[1, 2], [1, 2]]
    assert found["n"] == 2
    assert found["last"].tolist() == [[1, 2], [5, 6], [7, 8]]


def test_a_list_grows_to_where_it_is_written():
    """The places between hold zeros."""
    kind = ListType(TensorType("float32", (2,)))
    steps = [
        call("make_list", Named("a", kind), init_length=np.int32(1), elem_shape=[2]),
        call("list_write", Named("b", kind), ls="a", index=np.int32(3), value="x"),
        call("list_gather", tensor("y", 3, 2), ls="b", indices=np.array([3, 2, 0])),
    ]
    found = machine([tensor("x", 2)], steps, ["y"]).run({"x": np.array([1, 2], np.float32)})
    assert found["y"].tolist() == [[1, 2], [0, 0], [0, 0]]


@pytest.mark.parametrize(("kind", "grows"), [("list_read", True), ("list_write", False)])
def test_a_place_beyond_a_list_is_an_error(kind, grows):
    given = {"value": "x"} if kind == "list_write" else {}
    listed = Named("a", ListType(TensorType("float32", (2,))))
    steps = [
        call("make_list", listed, elem_shape=[2], dynamic_length=np.bool_(grows)),
        call(kind, tensor("y", 2), ls="a", index=np.int32(2), **given),
    ]
    with pytest.raises(EdgedeployError, match="index 2 of a list of 1"):
        machine([tensor("x", 2)], steps, ["y"]).run({"x": np.zeros(2, np.float32)})


def test_a_result_may_have_any_rank_where_the_program_says_so():
    output = Named("y", TensorType("float32", any_rank=True))
    made = machine([tensor("s", None, dtype="int32")], [call("fill", output, shape="s")], ["y"])
    assert made.run({"s": np.array([2, 1, 3], np.int32)})["y"].shape == (2, 1, 3)


def counter():
    """Return a machine that adds x to a state and returns the state before and after."""
    steps = [
        call("read_state", tensor("before", 2, dtype="float16"), input="s"),
        call("add", tensor("sum", 2, dtype="float16"), x="before", y="x"),
        call("write_state", input="s", data="sum"),
        call("read_state", tensor("after", 2, dtype="float16"), input="s"),
    ]
    inputs = [tensor("x", 2, dtype="float16"), state("s", 2)]
    return machine(inputs, steps, ["before", "after"], opset="CoreML8")


def test_a_state_keeps_its_value_until_it_is_reset():
    made = counter()
    given = {"x": np.array([1, 2], np.float16)}
    first, second = made.run(given), made.run(given)
    assert (first["before"].tolist(), first["after"].tolist()) == ([0, 0], [1, 2])
    assert (second["before"].tolist(), second["after"].tolist()) == ([1, 2], [2, 4])
    made.reset()
    assert made.run(given)["before"].tolist() == [0, 0]


def test_two_machines_of_one_program_have_states_of_their_own():
    one, other = counter(), counter()
    one.run({"x": np.array([1, 2], np.float16)})
    assert other.states["s"].tolist() == [0, 0]


def test_unknown_operations_are_named_before_anything_runs():
    steps = [call("frobnicate", tensor("y", 2), x="x"), call("gyre", tensor("z", 2), x="y")]
    with pytest.raises(EdgedeployError, match="frobnicate, gyre") as error:
        machine([tensor("x", 2)], steps, ["z"])
    assert code_of(error) == ["E361"]


def test_an_unknown_operation_inside_a_block_is_found():
    inside = block([call("gyre", tensor("t", 2), x="x")], ["t"])
    steps = [call("cond", tensor("y", 2), blocks=[inside, inside], pred="pred")]
    with pytest.raises(EdgedeployError, match="gyre"):
        machine([tensor("x", 2), tensor("pred", dtype="bool")], steps, ["y"])


def test_a_result_of_another_shape_than_declared_is_an_error():
    made = machine([tensor("x", None)], [call("identity", tensor("y", 3), x="x")], ["y"])
    assert made.run({"x": np.zeros(3, np.float32)})["y"].shape == (3,)
    with pytest.raises(EdgedeployError, match=r"made shape \[2\], declared \[3\]") as error:
        made.run({"x": np.zeros(2, np.float32)})
    assert code_of(error) == ["E362"]
    assert error.value.diagnostics[0].subject == "y"


def test_an_unknown_parameter_is_an_error():
    """So that a later version of an operation is never computed as an earlier one."""
    steps = [call("relu", tensor("y", 2), x="x", slope=np.float32(2))]
    with pytest.raises(EdgedeployError, match="slope"):
        machine([tensor("x", 2)], steps, ["y"]).run({"x": np.zeros(2, np.float32)})


def test_an_observer_is_told_of_every_operation_inside_blocks_too():
    told = []

    def observe(operation, given, made):
        told.append((operation.kind, sorted(given), [np.ndim(value) for value in made]))

    made = Interpreter(program([tensor("x", 2)], loop(2), ["result", "count"]), observe=observe)
    made.run({"x": np.array([1, 3], np.float32)})
    once = [("less", ["x", "y"], [0]), ("add", ["x", "y"], [0]), ("mul", ["x", "y"], [1])]
    assert told == [*once, *once, once[0], ("while_loop", ["loop_vars"], [0, 1])]


def test_what_an_observer_raises_is_its_own():
    def observe(operation, given, made):
        raise ValueError("enough")

    steps = [call("relu", tensor("y", 2), x="x")]
    made = Interpreter(program([tensor("x", 2)], steps, ["y"]), observe=observe)
    with pytest.raises(ValueError, match="enough"):
        made.run({"x": np.zeros(2, np.float32)})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "is missing"),
        ({"x": np.zeros(2, np.float64)}, "float64"),
        ({"x": np.zeros(3, np.float32)}, r"\[3\]"),
        ({"x": np.zeros((1, 2), np.float32)}, r"\[1, 2\]"),
    ],
)
def test_inputs_must_be_what_the_program_declares(given, told):
    made = machine([tensor("x", 2)], [call("relu", tensor("y", 2), x="x")], ["y"])
    with pytest.raises(EdgedeployError, match=told) as error:
        made.run(given)
    assert code_of(error) == ["E363"]


def test_inputs_and_constants_are_not_changed():
    weight = np.array([1, 2], np.float32)
    steps = [
        const("w", weight),
        call("add", tensor("y", 2), x="x", y="w"),
        call(
            "slice_update",
            tensor("z", 2),
            x="w",
            update="x",
            begin=[np.array([0])],
            end=[np.array([2])],
        ),
    ]
    made = machine([tensor("x", 2)], steps, ["y", "z", "w"])
    given = {"x": np.array([5, 6], np.float32)}
    first, second = made.run(given), made.run(given)
    assert first["y"].tolist() == second["y"].tolist() == [6, 8]
    assert first["z"].tolist() == [5, 6]
    assert second["w"].tolist() == weight.tolist() == [1, 2]
    assert given["x"].tolist() == [5, 6]
