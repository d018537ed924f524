"""A builder for tests that kill it: a diamond of stub stages over a store.

``python -m tests.stubs.builder STORE PROJECT [TRACE]`` prints the digest of the last output.
"""

import sys
from pathlib import Path

from edgedeploy.errors import EdgedeployError
from edgedeploy.executor import Builder, FileRef, Node
from edgedeploy.store import Store


def diamond(project: Path, trace: str = "") -> Node:
    """Return the last of four nodes; the first reads the project's ``input.txt``."""

    def node(name: str, *needed: Node) -> Node:
        inputs = {other.id: other.output("text") for other in needed}
        if not needed:
            inputs = {"file": FileRef(path=project / "input.txt")}
        params = {"text": name, "name": name, "trace": trace, "sleep_s": 0.01}
        return Node(id=name, kind="tests.stubs.join", params=params, inputs=inputs)

    top = node("top")
    return node("bottom", node("left", top), node("right", top))


def main() -> int:
    store, project, trace = Path(sys.argv[1]), Path(sys.argv[2]), "".join(sys.argv[3:4])
    try:
        last = diamond(project, trace)
        with Builder(Store(store), project) as builder:
            tree, folder = builder.folder(last.output("text"))
            print(tree.digest, (folder / "text").read_text(), flush=True)
    except EdgedeployError as error:
        print(error, error.diagnostics, file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
