"""The front end: an ONNX model in normal form becomes a MIL program.

Every node is translated by the function that the registry names. A node that is refused does not
end the translation: a stand-in of its shape takes its place, so that all refusals come at once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from edgedeploy.backends.apple import dtypes
from edgedeploy.backends.apple.high_rank import lowered_later
from edgedeploy.backends.apple.images import normalised, pixel_dims
from edgedeploy.backends.apple.interface import Interface, Port, Wishes
from edgedeploy.backends.apple.keep import Keep
from edgedeploy.backends.apple.mil_api import (
    MIL_TYPES,
    TARGETS,
    Function,
    Program,
    Var,
    get_new_symbol,
    mb,
    quiet,
    types,
)
from edgedeploy.backends.apple.node import Node, Refusal, Value
from edgedeploy.backends.apple.precision import float32
from edgedeploy.backends.apple.registry import translations
from edgedeploy.backends.apple.shapes import MAX_RANK, check_rank
from edgedeploy.backends.apple.special import (
    PROBABILITIES,
    STATE_TYPE,
    check_wishes,
    read_state,
    update_state,
)
from edgedeploy.errors import BuildError, Diagnostic

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_WORDS = """any bool program func tensor list dict tuple true false string state
    bf16 fp16 fp32 fp64 int8 int16 int32 int64 uint8 uint16 uint32 uint64"""
RESERVED = frozenset(_WORDS.split())
"""Words of MIL; coremltools 9.0 appends to an input of such a name (pass sanitize_names)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A translated model.

    Attributes:
        program: The MIL program (coremltools).
        inputs: Its inputs in order.
        outputs: Its outputs in order.
        ios: Major version of iOS that it is for.
    """

    program: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    ios: int

    @property
    def interface(self) -> Interface:
        """What an app feeds and gets."""
        outputs = (
            replace(port, name=PROBABILITIES) if port.kind == "classes" else port
            for port in self.outputs
        )
        return Interface(inputs=self.inputs, outputs=tuple(outputs))


def identifiers(names: list[str]) -> dict[str, str]:
    """Return an identifier for each name, all different; what is one already keeps its name.

    The words of MIL are none.
    """
    found = {name: name for name in names if _IDENTIFIER.fullmatch(name) and name not in RESERVED}
    taken = set(found)
    for name in names:
        if name in found:
            continue
        plain = _plain(name)
        while plain in taken or plain in RESERVED:
            plain += "_"
        taken.add(plain)
        found[name] = plain
    return found


def _other_names(values: Sequence[ir.Value], names: Mapping[str, str]) -> dict[ir.Value, str]:
    """Return names for inputs that are outputs as well: a program's ports all differ."""
    taken = {*names.values(), *RESERVED}
    found: dict[ir.Value, str] = {}
    for value in values:
        if value.is_graph_output():
            name = f"{names[value.name or '']}_out"
            while name in taken:
                name += "_"
            taken.add(name)
            found[value] = name
    return found


def _plain(name: str) -> str:
    """Return a name with an underscore for what no identifier has, and a letter in front."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return plain if _IDENTIFIER.match(plain) else f"x{plain}"


def interface_dtype(dtype: str) -> str | None:
    """Return what an app feeds or gets for an ONNX dtype; None where there is nothing."""
    held = dtypes.held_as(dtype)
    return "int32" if held == "bool" else held


def translate(
    model: ir.Model, *, ios: int, wishes: Wishes | None = None, keep: Keep | None = None
) -> Translation:
    """Return the MIL program of a model.

    Args:
        model: In normal form: shapes inferred, constants as initialisers.
        ios: Major version of iOS (16, 17 or 18).
        wishes: What an app shall feed and get other than arrays.
        keep: Which nodes compute in float32 whatever the program's precision.

    Raises:
        BuildError: Nodes, inputs or outputs that cannot be expressed (E340, E341), all at once; or
            an image, a state or classes that cannot be had (E344, E346, E347), or a name in
            ``keep`` that matches nothing (E349).
    """
    with quiet():
        # coremltools numbers what has no name through the life of the process.
        mb.name_count.clear()
        return Translator(model, ios, wishes or Wishes(), keep or Keep()).run()


class Translator:
    """One translation under way.

    Args:
        model: The model.
        ios: Major version of iOS.
        wishes: What an app shall feed and get other than arrays.
        keep: Which nodes compute in float32 whatever the program's precision.
    """

    def __init__(self, model: ir.Model, ios: int, wishes: Wishes, keep: Keep) -> None:
        self._graph = model.graph
        self._ios = ios
        self._wishes = wishes
        self._keep = keep
        self._opset = model.opset_imports.get("", 1)
        self._values: dict[int, Value] = {}
        self._symbols: dict[str, Any] = {}
        self._found: list[Diagnostic] = []
        self._constants: list[dict[Value, Var]] = [{}]
        self._ops = translations()
        # A model may list an output twice; an app gets it by its name, once.
        self._outputs = list(dict.fromkeys(self._graph.outputs))
        ports = [value.name or "" for value in (*self._graph.inputs, *self._outputs)]
        self._names = identifiers(list(dict.fromkeys(ports)))
        self._passed_on = _other_names(self._graph.inputs, self._names)

    def run(self) -> Translation:
        """Return the translation."""
        given = [
            value for value in self._graph.inputs if value.name not in self._graph.initializers
        ]
        inputs = [self._port(value) for value in given]
        outputs = [self._output_port(value) for value in self._outputs]
        if self._wishes.classes:
            outputs[0] = replace(outputs[0], kind="classes", classes=self._wishes.classes)
        self._raise_found()
        check_wishes(inputs, outputs, self._wishes, self._ios)
        placeholders = {port.name: self._placeholder(port) for port in inputs}
        target = TARGETS[self._ios]
        with Function(placeholders, opset_version=target) as function:
            for value, port in zip(given, inputs, strict=True):
                self._values[id(value)] = self._entry(function.inputs[port.name], port, value)
            self._translate_nodes(self._graph)
            self._raise_found()
            made = [
                self._exit(value, port, function.inputs.get(port.name))
                for value, port in zip(self._outputs, outputs, strict=True)
            ]
            self._raise_found()
            function.set_outputs([var for var in made if var is not None])
        self._keep.check()
        program = Program()
        program.add_function("main", function)
        return Translation(
            program=program, inputs=tuple(inputs), outputs=tuple(outputs), ios=self._ios
        )

    def body(self, graph: ir.Graph, arguments: Sequence[Value]) -> list[Var]:
        """Translate a body's nodes where the translation is; return its outputs.

        Args:
            graph: The body; it may refer to values outside.
            arguments: What its inputs are.
        """
        for value, given in zip(graph.inputs, arguments, strict=True):
            self._values[id(value)] = Value(
                dtype=_dtype(value) or given.dtype, array=given.array, var=given.var
            )
        self._translate_nodes(graph)
        return [self._var(value) for value in graph.outputs]

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Translate into a block of an operation: what is made in it exists nowhere else."""
        self._constants.append({})
        try:
            yield
        finally:
            self._constants.pop()

    def constant(self, value: Value) -> Var:
        """Return a constant as a MIL value that can be used where the translation is."""
        for known in self._constants:
            if value in known:
                return known[value]
        if value.array is None:
            raise Refusal("a value that it needs is not there", "repair the model")
        lost = dtypes.lost(value.array)
        if lost:
            raise Refusal(
                f"a constant has {lost}", "change the constant, or drop the Core ML target"
            )
        made = mb.const(val=dtypes.constant(value.array))
        self._constants[-1][value] = made
        return made

    def _translate_nodes(self, graph: ir.Graph) -> None:
        for value in graph.initializers.values():
            array = None if value.const_value is None else value.const_value.numpy()
            self._values[id(value)] = Value(dtype=_dtype(value), array=array)
        for ir_node in graph:
            self._translate_node(ir_node)

    def _translate_node(self, ir_node: ir.Node) -> None:
        name = ir_node.name or f"{ir_node.op_type} making {ir_node.outputs[0].name}"
        node = Node(
            ir_node=ir_node,
            name=name,
            op=ir_node.op_type,
            opset=self._opset,
            ios=self._ios,
            inputs=[None if item is None else self._value(item) for item in ir_node.inputs],
            translator=self,
        )
        try:
            made = self._call(node)
        except Refusal as refusal:
            self._refused(node.op, name, refusal)
            made = [self._stand_in(value) for value in ir_node.outputs]
        for value, var in zip(ir_node.outputs, made, strict=False):
            if var is None or not value.name:
                continue
            if value.name and var.op is not None and var.op.op_type != "const":
                var.name = var.op.name = self._program_name(value.name)
            self._values[id(value)] = Value(dtype=_dtype(value), var=var)

    def _refused(self, what: str, subject: str, refusal: Refusal) -> None:
        said = Diagnostic(
            code="E340",
            message=f"Core ML: {what}: {refusal.reason}",
            subject=subject,
            hint=refusal.hint,
        )
        # A body may be translated more than once.
        if said not in self._found:
            self._found.append(said)

    def _call(self, node: Node) -> list[Var]:
        standard = node.ir_node.domain in ("", "ai.onnx")
        translate_op = self._ops.get(node.op if standard else f"{node.ir_node.domain}.{node.op}")
        if translate_op is None:
            domain = f" of {node.ir_node.domain}" if node.ir_node.domain else ""
            raise Refusal(
                f"there is no translation of this operator{domain}",
                "replace it by other operators, or drop the Core ML target",
            )
        found = len(self._found)
        try:
            with float32(self._keep.takes(node.name, node.op)):
                made = translate_op(node)
        except (Refusal, BuildError):
            raise
        except Exception as error:
            if len(self._found) > found:
                # The stand-in of a node that was refused inside a body does not fit.
                self._raise_found()
            raise Refusal(
                f"coremltools refuses it: {' '.join(str(error).split())[:500]}",
                "change the node that is named, or drop the Core ML target",
            ) from error
        values = list(made) if isinstance(made, (list, tuple)) else [made]
        for value, var in zip(node.outputs, values, strict=False):
            if var is not None and not lowered_later(value):
                check_rank(len(var.shape))
        return values

    def _stand_in(self, value: ir.Value) -> Var:
        """Return zeros like a value that could not be made, or end the translation here."""
        sizes = [] if value.shape is None else list(value.shape)
        static = [size for size in sizes if isinstance(size, int)]
        held = dtypes.held_as(_dtype(value)) if value.dtype is not None else None
        if value.shape is None or held is None or len(static) < len(sizes):
            self._raise_found()
        return mb.const(val=np.zeros(static, held))

    def _program_name(self, name: str) -> str:
        if name in self._names:
            return self._names[name]
        return _plain(name)

    def _value(self, value: ir.Value) -> Value:
        return self._values[id(value)]

    def _var(self, value: ir.Value) -> Var:
        found = self._value(value)
        return self.constant(found) if found.var is None else found.var

    def _port(self, value: ir.Value) -> Port:
        name = value.name or ""
        dtype = _dtype(value)
        interface = interface_dtype(dtype)
        sizes = value.shape
        why = ""
        if interface is None:
            why = f"type {dtype}"
        elif sizes is None:
            why = "an unknown rank"
        elif len(sizes) > MAX_RANK:
            why = f"rank {len(sizes)}"
        if why:
            self._found.append(
                Diagnostic(
                    code="E341",
                    message=f"Core ML: {name!r} has {why}, which no app can feed or read",
                    subject=name,
                    hint="convert it outside the model, or drop the Core ML target",
                )
            )
        dims = [str(dim.value) if not isinstance(dim, int) else dim for dim in sizes or ()]
        origin = {made: given for given, made in self._wishes.states}
        kind = self._wishes.kind(name)
        if kind == "image" and interface == "int32":
            interface = "float32"  # what Core ML makes of an image for a program
        return Port(
            onnx_name=name,
            name=self._names[origin.get(name, name)],
            onnx_dtype=dtype,
            dtype=interface or "float32",
            dims=tuple(dims),
            kind=kind,
            image=self._wishes.images.get(name),
        )

    def _placeholder(self, port: Port) -> Any:
        """Return what stands for an input while the program is built."""
        if port.kind == "state":
            return mb.state_tensor_placeholder(shape=port.dims or [1], dtype=STATE_TYPE)
        dims = pixel_dims(port) if port.kind == "image" else port.dims
        sizes = [
            dim if isinstance(dim, int) else self._symbols.setdefault(dim, get_new_symbol())
            for dim in dims
        ] or [1]
        return mb.placeholder(shape=sizes, dtype=MIL_TYPES[port.dtype])

    def _entry(self, var: Var, port: Port, value: ir.Value) -> Value:
        """Return an input in the form that the nodes expect."""
        if port.kind == "state":
            var = read_state(var, port)
        if port.image is not None:
            var = normalised(var, port.image)
            whole = dtypes.held_as(port.onnx_dtype) == "int32"
            # To a cast, pixels that come as floats are as good as whole numbers.
            if whole and any(use.node.op_type != "Cast" for use in value.uses()):
                var = mb.cast(x=var, dtype="int32")
        if not port.dims:
            var = mb.squeeze(x=var, axes=[0])
        if port.onnx_dtype == "bool":
            var = mb.cast(x=var, dtype="bool")
        return Value(dtype=port.onnx_dtype, var=var)

    def _output_port(self, value: ir.Value) -> Port:
        port = self._port(value)
        if port.kind == "array" and value in self._passed_on:
            return replace(port, name=self._passed_on[value])
        return port

    def _exit(self, value: ir.Value, port: Port, state: Var | None) -> Var | None:
        """Return an output in the form that an app gets, under its name.

        Args:
            value: The output.
            port: What it becomes.
            state: The program's input that it updates, where it becomes a state; None is returned
                then, as for an output that was refused.
        """
        try:
            var = self._var(value)
        except Refusal as refusal:
            self._refused(f"output {value.name!r}", value.name or "", refusal)
            return None
        if port.kind == "state":
            update_state(state, var)
            return None
        if var.dtype != MIL_TYPES[port.dtype]:
            var = mb.cast(x=var, dtype=types.builtin_to_string(MIL_TYPES[port.dtype]))
        if not var.shape:
            var = mb.expand_dims(x=var, axes=[0])
        return mb.identity(x=var, name=port.name)

    def _raise_found(self) -> None:
        if self._found:
            raise BuildError(self._found)


def _dtype(value: ir.Value) -> str:
    return "" if value.dtype is None else str(value.dtype.numpy().name)
