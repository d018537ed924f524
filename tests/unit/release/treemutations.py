"""What somebody may do to the files of an unpacked package: one change each, from a seed."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgedeploy.manifest import canonical
from edgedeploy.release.bundle import ENVELOPE, MANIFEST
from edgedeploy.release.signing import envelope, sign
from tests.unit.release import made

Tree = dict[str, bytes]


@dataclass(frozen=True)
class Mutation:
    """A changed tree, and what was done to it."""

    what: str
    files: Tree


class TreeMutator:
    """Makes mutations of the files of a release as a package holds them.

    Args:
        good: By path below the folder of the release, with its manifest and signatures.
        other: The same of another release by the same key.
        seed: Of the choices.
    """

    def __init__(self, good: Mapping[str, bytes], other: Mapping[str, bytes], seed: int) -> None:
        self.good, self.other = dict(good), dict(other)
        self.random = random.Random(seed)

    def __iter__(self) -> Iterator[Mutation]:
        """Yield mutations without end, every kind as often as any other."""
        kinds = (
            *(self.turned, self.cut, self.grown, self.emptied, self.swapped),
            *(self.removed, self.renamed, self.added, self.mixed),
            *(self.relabelled, self.signed_by_others, self.unsigned),
        )
        while True:
            for kind in kinds:
                found = kind(dict(self.good))
                if found.files != self.good:
                    yield found

    def _any(self, held: Tree, *, full: bool = False) -> str:
        return self.random.choice(sorted(path for path in held if held[path] or not full))

    def turned(self, held: Tree) -> Mutation:
        """Turn a bit of any file."""
        path = self._any(held, full=True)
        content = bytearray(held[path])
        content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
        return Mutation(f"a bit of {path} turned", {**held, path: bytes(content)})

    def cut(self, held: Tree) -> Mutation:
        path = self._any(held, full=True)
        content = held[path][: self.random.randrange(len(held[path]))]
        return Mutation(f"{path} cut off", {**held, path: content})

    def grown(self, held: Tree) -> Mutation:
        path = self._any(held)
        return Mutation(f"{path} grown", {**held, path: held[path] + self.random.randbytes(3)})

    def emptied(self, held: Tree) -> Mutation:
        path = self._any(held)
        return Mutation(f"{path} emptied", {**held, path: b""})

    def swapped(self, held: Tree) -> Mutation:
        one, two = self.random.sample(sorted(held), 2)
        return Mutation(f"{one} and {two} swapped", {**held, one: held[two], two: held[one]})

    def removed(self, held: Tree) -> Mutation:
        path = self._any(held)
        del held[path]
        return Mutation(f"{path} removed", held)

    def renamed(self, held: Tree) -> Mutation:
        path = self._any(held)
        held[f"{path}.old"] = held.pop(path)
        return Mutation(f"{path} renamed", held)

    def added(self, held: Tree) -> Mutation:
        path = self.random.choice(("more.bin", "files/more.txt", "~", "manifest.json.bak"))
        return Mutation(f"{path} added", {**held, path: self.random.randbytes(9)})

    def mixed(self, held: Tree) -> Mutation:
        """Take some files from the other release, but not all of them."""
        different = sorted(path for path in held if self.other.get(path, held[path]) != held[path])
        taken = self.random.sample(different, self.random.randrange(1, len(different)))
        return Mutation(f"{taken} of another release", held | {p: self.other[p] for p in taken})

    def relabelled(self, held: Tree) -> Mutation:
        """Let the manifest say another version, and sign nothing."""
        about = json.loads(held[MANIFEST])
        about["version"] = self.random.choice(("9.9.9", "0.0.1"))
        return Mutation("the manifest changed", {**held, MANIFEST: canonical(about)})

    def signed_by_others(self, held: Tree) -> Mutation:
        """Sign the other release's manifest, or ours, with a key that nobody believes."""
        manifest = self.random.choice((held[MANIFEST], self.other[MANIFEST]))
        foreign = sign(manifest, made.OTHER.public, made.OTHER.sign)
        told = envelope(manifest, [foreign])
        return Mutation("signed by others", {**held, MANIFEST: manifest, ENVELOPE: told})

    def unsigned(self, held: Tree) -> Mutation:
        said = json.loads(held[ENVELOPE])
        said["signatures"] = []
        return Mutation("signatures stripped", {**held, ENVELOPE: canonical(said)})
