"""What somebody may do to a bundle: one change each, from a seed."""

import base64
import hashlib
import io
import json
import random
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedeploy.manifest import canonical
from edgedeploy.release.archive import read_member, read_members, write_archive
from edgedeploy.release.bundle import ENVELOPE, MANIFEST, OWN, SUMS, parse_release, sums
from edgedeploy.release.signing import PAYLOAD_TYPE, envelope, sign
from tests.unit.release import made

ORDER = (1 << 252) + 27742317777372353535851937790883648493  # of the base point, RFC 8032 5.1


@dataclass(frozen=True)
class Mutation:
    """A changed bundle: what was done, its bytes, and the file that must be named (if one is)."""

    what: str
    content: bytes
    named: str | None = None


def unpacked(content: bytes) -> dict[str, bytes]:
    """Return the members of a bundle."""
    file = io.BytesIO(content)
    return {path: read_member(file, item, 1 << 30) for path, item in read_members(file).items()}


def packed(members: dict[str, bytes], scratch: Path) -> bytes:
    """Return an archive of the right form, with right CRCs, whatever is in it."""
    write_archive(scratch, dict(members))
    return scratch.read_bytes()


class Mutator:
    """Makes mutations of one bundle.

    Args:
        folder: For scratch files.
        seed: Of the choices.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.scratch = folder / "scratch"
        self.good = made.write(folder).read_bytes()
        later = {**made.CONTENTS, "rpi5/ort/main/model.ort": bytes(range(255, -1, -1)) * 20}
        self.other = made.write(
            folder,
            made.release_of(later, version="1.0.1", counter=8),
            contents=later,
        ).read_bytes()

    def __iter__(self) -> Iterator[Mutation]:
        """Yield mutations without end, every kind as often as any other."""
        kinds: list[Callable[[], Mutation]] = [
            *(self.turned, self.cut, self.grown, self.taken_out),
            *(self.changed, self.added, self.removed, self.renamed, self.swapped, self.mixed),
            *(self.manifest, self.sums, self.whole_manifest, self.envelope, self.malleable),
            *(self.repacked, self.zip_attribute, self.odd_path, self.twice, self.directory),
        ]
        while True:
            for kind in kinds:
                found = kind()
                if found.content != self.good:
                    yield found

    def turned(self) -> Mutation:
        """Turn some bits anywhere."""
        content = bytearray(self.good)
        for _ in range(self.random.choice((1, 1, 1, 2, 9))):
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
        return Mutation("bits turned", bytes(content))

    def cut(self) -> Mutation:
        return Mutation("cut off", self.good[: self.random.randrange(len(self.good))])

    def grown(self) -> Mutation:
        more = self.random.choice(
            (b"\0", b"PK\3\4", self.good, self.random.randbytes(30), self.good[-22:])
        )
        at = self.random.choice((0, len(self.good), self.random.randrange(len(self.good))))
        return Mutation("bytes put in", self.good[:at] + more + self.good[at:])

    def taken_out(self) -> Mutation:
        at = self.random.randrange(len(self.good))
        return Mutation("bytes taken out", self.good[:at] + self.good[at + self.count() :])

    def count(self) -> int:
        return self.random.choice((1, 2, 30, 300))

    def file(self) -> str:
        """Return one of the release's files that lie in the archive."""
        return self.random.choice(sorted(unpacked(self.good).keys() - OWN))

    def changed(self) -> Mutation:
        held, path = unpacked(self.good), self.file()
        content = bytearray(held[path]) or bytearray(b"\0")
        content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
        held[path] = self.random.choice((bytes(content), held[path] + b"\0", held[path][:-1], b"x"))
        return Mutation("a file changed", packed(held, self.scratch), path)

    def added(self) -> Mutation:
        held = unpacked(self.good)
        path = self.random.choice(("a", "zz", "rpi5/ort/main/model.ort.bak", "doc/labels.txt", "~"))
        held[path] = self.random.choice((b"", b"x" * 99, held["rpi5/ort/main/model.ort"]))
        return Mutation("a file added", packed(held, self.scratch), path)

    def removed(self) -> Mutation:
        held = unpacked(self.good)
        path = self.random.choice(sorted(held))
        del held[path]
        return Mutation("a file removed", packed(held, self.scratch), path)

    def renamed(self) -> Mutation:
        held, path = unpacked(self.good), self.file()
        goal = self.random.choice((path + "x", path.upper(), "A/" + path, path[1:]))
        held[goal] = held.pop(path)
        return Mutation("a file renamed", packed(held, self.scratch), goal)

    def swapped(self) -> Mutation:
        held = unpacked(self.good)
        one, other = self.random.sample(sorted(held.keys() - OWN), 2)
        held[one], held[other] = held[other], held[one]
        return Mutation("two files swapped", packed(held, self.scratch), min(one, other))

    def mixed(self) -> Mutation:
        """Put some members of another release of the same key in the places of ours."""
        held, others = unpacked(self.good), unpacked(self.other)
        different = sorted(path for path in held if held[path] != others[path])
        taken = self.random.sample(different, self.random.randrange(1, len(different)))
        held.update({path: others[path] for path in taken})
        return Mutation(f"{taken} of another release", packed(held, self.scratch))

    def manifest(self) -> Mutation:
        """Change the manifest, and sign nothing."""
        held = unpacked(self.good)
        data = json.loads(held[MANIFEST])
        data[self.random.choice(("counter", "version", "name", "files"))] = self.random.choice(
            (99, "2.0.0", [], None)
        )
        form = self.random.choice((canonical, lambda data: json.dumps(data, indent=1).encode()))
        held[MANIFEST] = self.random.choice((form(data), held[MANIFEST] + b"\n", b"", b"[" * 9999))
        return Mutation("the manifest changed", packed(held, self.scratch), MANIFEST)

    def whole_manifest(self) -> Mutation:
        """Change a file and all that speaks of it, and sign it with a key of one's own, or not."""
        held, path = unpacked(self.good), self.file()
        held[path] += b"worse"
        data = json.loads(held[MANIFEST])
        for item in data["files"]:
            if item["path"] == path:
                item["size"] = len(held[path])
                item["sha256"] = hashlib.sha256(held[path]).hexdigest()
        held[MANIFEST] = canonical(data)
        held[SUMS] = sums(parse_release(held[MANIFEST]).files)
        text = json.loads(held[ENVELOPE])
        text["payload"] = base64.b64encode(held[MANIFEST]).decode()
        if self.random.random() < 0.8:
            own = sign(held[MANIFEST], made.OTHER.public, made.OTHER.sign)
            keyid = self.random.choice((made.KEY.id, made.OTHER.id))
            foreign = {"keyid": keyid, "sig": base64.b64encode(own.sig).decode()}
            kept = [item for item in text["signatures"] if item["keyid"] != keyid]
            text["signatures"] = [foreign, *self.random.choice(([], kept))]
            text["signatures"].sort(key=lambda item: str(item["keyid"]))
        held[ENVELOPE] = canonical(text)
        return Mutation("all of it made anew", packed(held, self.scratch))

    def sums(self) -> Mutation:
        held = unpacked(self.good)
        held[SUMS] = self.random.choice(
            (held[SUMS][1:], held[SUMS] + b"\n", b"", held[SUMS].replace(b"  ", b" *"))
        )
        return Mutation("SHA256SUMS changed", packed(held, self.scratch), SUMS)

    def envelope(self) -> Mutation:
        """Strip, replace or respell the signatures."""
        held = unpacked(self.good)
        data = json.loads(held[ENVELOPE])
        right, payload = data["signatures"][0], held[MANIFEST]
        foreign = sign(payload, made.OTHER.public, made.OTHER.sign)
        kind = self.random.choice(("HS256", "none", "application/vnd.in-toto+json", "\n"))
        odd = [
            {**data, "signatures": []},
            {**data, "signatures": [right, right]},
            {**data, "signatures": [{**right, "sig": base64.b64encode(bytes(64)).decode()}]},
            {**data, "signatures": [{**right, "sig": base64.b64encode(foreign.sig).decode()}]},
            {**data, "signatures": [{**right, "keyid": right["keyid"].upper()}]},
            {**data, "signatures": [{**right, "keyid": made.OTHER.id}]},
            {**data, "signatures": [{**right, "alg": kind}]},
            {**data, "signatures": [right] * 17},
            {**data, "signatures": {"0": right}},
            {**data, "payloadType": kind},
            {**data, "alg": kind},
            {"payload": data["payload"], "payloadType": PAYLOAD_TYPE},
            {**data, "payload": data["payload"] + "===="},
            [],
        ]
        texts = [canonical(item) for item in odd]
        texts += [
            envelope(payload, [foreign]),
            held[ENVELOPE] + b"\n",
            json.dumps(data).encode(),
            held[ENVELOPE].replace(b'=="}', b'"}'),
            held[ENVELOPE].replace(b'"sig":"', b'"sig":"\\u0041'),
            b"[" * 100_000,
            b"",
        ]
        held[ENVELOPE] = self.random.choice(texts)
        return Mutation("the signatures changed", packed(held, self.scratch))

    def malleable(self) -> Mutation:
        """Write the right signature in another way: S + L, or bits that base64 does not use."""
        held = unpacked(self.good)
        data = json.loads(held[ENVELOPE])
        item = data["signatures"][0]
        raw = base64.b64decode(item["sig"])
        if self.random.random() < 0.5:
            s = int.from_bytes(raw[32:], "little") + ORDER
            item["sig"] = base64.b64encode(raw[:32] + s.to_bytes(32, "little")).decode()
        else:
            letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            last = letters.index(item["sig"][85]) | self.random.randrange(1, 16)
            item["sig"] = item["sig"][:85] + letters[last] + "=="
        held[ENVELOPE] = canonical(data)
        return Mutation("another spelling of the signature", packed(held, self.scratch))

    def repacked(self) -> Mutation:
        """Let another program write the archive."""
        goal = io.BytesIO()
        kind = self.random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
        held = list(unpacked(self.good).items())
        if self.random.random() < 0.5:
            self.random.shuffle(held)
        with zipfile.ZipFile(goal, "w", kind) as archive:
            archive.comment = self.random.choice((b"", b"PK\5\6" + bytes(18)))
            for path, content in held:
                archive.writestr(path, content)
        return Mutation("packed anew", goal.getvalue())

    def zip_attribute(self) -> Mutation:
        """Say other things of a member than we do: a link, a device, a folder, a date, a field."""
        goal = io.BytesIO()
        link, odd = self.random.choice(sorted(unpacked(self.good))), self.random.randrange(7)
        with zipfile.ZipFile(goal, "w") as archive:
            for path, content in sorted(unpacked(self.good).items()):
                about = zipfile.ZipInfo(path)
                about.create_system, about.external_attr = 3, 0o100644 << 16
                if path == link and odd == 0:
                    about.external_attr = (stat.S_IFLNK | 0o777) << 16
                elif path == link and odd == 1:
                    about.external_attr = (stat.S_IFCHR | 0o666) << 16
                elif path == link and odd == 2:
                    about.external_attr = (0o100644 << 16) | 0x10
                elif path == link and odd == 3:
                    about.date_time = (2026, 1, 1, 0, 0, 0)
                elif path == link and odd == 4:
                    about.extra = struct.pack("<HH4s", 0x7075, 4, b"name")
                elif path == link and odd == 5:
                    about.comment = b"comment"
                archive.writestr(about, content)
        return Mutation("other attributes", goal.getvalue())

    def odd_path(self) -> Mutation:
        """Add a member whose path leads out, or is another file's to some file system."""
        held = unpacked(self.good)
        path = self.random.choice(
            (
                *("../evil", "/etc/evil", "a/../../evil", "C:\\evil", "..\\evil", "a//b", "./a"),
                *("DOC/labels-again.txt", "Manifest.json", "doc", "doc/labels-again.txt/x", "-rf"),
                *(
                    "rpi5/ort/main/U\u0308ni\u0308code/weights.bin",
                    "a\0b",
                    "a\nb",
                    "\u202etxt",
                    "a/",
                ),
            )
        )
        held[path] = b"evil"
        return Mutation(f"with {path!r}", packed(held, self.scratch))

    def twice(self) -> Mutation:
        """Put a member in twice: the first that a reader finds, and the last."""
        at = self.good.index(b"PK\3\4", 1)
        entry = self.good[:at]
        directory = self.good.index(b"PK\1\2")
        where = self.random.choice((0, at, directory))
        return Mutation("a member twice", self.good[:where] + entry + self.good[where:])

    def directory(self) -> Mutation:
        """Let the directory say something else than the members' own headers."""
        content = bytearray(self.good)
        starts = [at for at in range(len(content)) if content[at : at + 4] == b"PK\1\2"]
        at = self.random.choice(starts)
        field = self.random.choice(
            (4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 30, 32, 34, 36, 38, 42, 46)
        )
        content[at + field] ^= self.random.randrange(1, 256)
        if field == 16:  # the CRC in both places: only who computes it sees
            (header,) = struct.unpack_from("<L", content, at + 42)
            content[header + 14] = content[at + 16]
        return Mutation(f"field {field} of the directory", bytes(content))
