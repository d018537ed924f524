"""The base of all passes: requires, change in place, ensures; and a pipeline of them."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from edgedeploy.errors import EdgedeployError, ModelError


class Pass(abc.ABC):
    """A change of a model in place, with a precondition and a verified postcondition."""

    @property
    def name(self) -> str:
        """Name of the pass in reports."""
        return type(self).__name__

    def requires(self, model: ir.Model) -> None:
        """Raise :class:`ModelError` if the pass cannot be applied; by default it always can."""
        del model

    @abc.abstractmethod
    def apply(self, model: ir.Model) -> bool:
        """Change the model in place and tell whether anything was modified."""

    @abc.abstractmethod
    def ensures(self, model: ir.Model) -> str | None:
        """Return what of the normal form does not hold after the pass, None when all does."""

    def __call__(self, model: ir.Model) -> bool:
        """Apply the pass between its checks; return whether the model was modified.

        Raises:
            ModelError: The model does not meet ``requires``, a library refused it, or the
                postcondition does not hold (E224).
        """
        try:
            self.requires(model)
            modified = self.apply(model)
            broken = self.ensures(model)
        except EdgedeployError:
            raise
        except Exception as error:
            raise ModelError(
                f"the pass {self.name} cannot handle the model: {type(error).__name__}: {error}",
                code="E224",
                hint="simplify the model or export it with another opset, and report this",
            ) from error
        if broken is not None:
            raise ModelError(
                f"after the pass {self.name} the model is not as it must be: {broken}",
                code="E224",
                hint="report this with the model; it is a bug of edgedeploy",
            )
        return modified


def run(passes: Sequence[Pass], model: ir.Model) -> tuple[tuple[str, bool], ...]:
    """Apply passes in order; return each name with whether it modified the model."""
    return tuple((step.name, step(model)) for step in passes)


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Yield every node of the main graph, its subgraphs, and the functions."""
    yield from ir.traversal.RecursiveGraphIterator(model.graph)
    for function in model.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs in a node's attributes."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def is_op(node: ir.Node, *ops: str) -> bool:
    """Tell whether a node is one of the given operators of the default domain."""
    return node.domain == "" and node.op_type in ops


def label(node: ir.Node) -> str:
    """Return how a node is called in messages: its name in the user's model if it has one."""
    origin: str = node.meta.get("origin", "")
    output = node.outputs[0].name if node.outputs else "?"
    return origin or node.name or f"{node.op_type} -> {output}"
