"""Swift code as tree-sitter reads it: the grammar stands in for a compiler, which is not here."""

from collections.abc import Iterator

import tree_sitter_swift
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_swift.language()))


def nodes(node: Node, *kinds: str) -> Iterator[Node]:
    """Yield a node and all below it, in order, of some kinds; of all without."""
    if not kinds or node.type in kinds:
        yield node
    for child in node.children:
        yield from nodes(child, *kinds)


def parse(source: bytes) -> Node:
    """Return the tree of a file.

    Raises:
        ValueError: It is no Swift, with the first place that is wrong.
    """
    root = _PARSER.parse(source).root_node
    for node in nodes(root):
        if node.is_error or node.is_missing:
            row, column = node.start_point
            raise ValueError(f"{row + 1}:{column + 1}: {text(node)[:60]!r}")
    return root


def text(node: Node) -> str:
    """Return the source of a node."""
    return (node.text or b"").decode()


def named(node: Node, field: str) -> str:
    """Return the source of a field of a node."""
    found = node.child_by_field_name(field)
    if found is None:
        raise ValueError(f"{node.type} has no {field}")
    return text(found)


def signatures(root: Node) -> dict[str, list[str]]:
    """Return the parameters of every function, as written, by its name."""
    return {
        named(node, "name"): [text(child) for child in node.children if child.type == "parameter"]
        for node in nodes(root, "function_declaration")
    }
