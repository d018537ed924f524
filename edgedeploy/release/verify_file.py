# Runs on devices: Python 3.6, standard library alone.
# ruff: noqa: B904, SIM115, T201
"""Checks a release before it is loaded: ``python3 verify_file.py BUNDLE --key KEY.pub``.

BUNDLE is a bundle (``NAME-VERSION.edpkg``), or the folder that one was extracted into. All of it is
right, to the last byte, or the check fails: exit status 0 right, 2 a key cannot be used, 6 the disk
refuses, 7 the release is refused. With ``--state FILE`` no older release of a name is taken after a
newer one. In a program: :func:`verify`, and :func:`signed` where a package holds a part of a
release. Nothing is read as JSON before its signature is known to be right.

Sources: Ed25519, RFC 8032 (verification as in 5.1.7, without the cofactor); keys, RFC 8410; the
envelope, DSSE 1.0.2; the archive, PKWARE APPNOTE 6.3.10 in the one form that edgedeploy writes.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import stat
import struct
import sys
import unicodedata
import zlib
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Optional, Set, Tuple

SCHEMA = 1
CHUNK_BYTES = 1 << 20
MOST_MEMBERS = 20000
MOST_FILES = 10000
MOST_BYTES = 64 << 30
MOST_MANIFEST_BYTES = 16 << 20
MOST_STATE_BYTES = 4 << 20
MOST_SIGNATURES = 16
MOST_COUNTER = (1 << 53) - 1  # what JSON carries everywhere (RFC 8259, section 6)

MANIFEST, ENVELOPE, SUMS = "manifest.json", "manifest.dsse.json", "SHA256SUMS"
OWN = (SUMS, ENVELOPE, MANIFEST)
# Not through a link, and without waiting for a pipe's writer.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
PAYLOAD_TYPE = b"application/vnd.edgedeploy.release+json"

_SIGNATURE = rb'\{"keyid":"([0-9a-f]{64})","sig":"([A-Za-z0-9+/]{86}==)"\}'
_ENVELOPE = re.compile(
    rb'\{"payload":"([A-Za-z0-9+/]*={0,2})","payloadType":"'
    + re.escape(PAYLOAD_TYPE)
    + rb'","signatures":\[((?:'
    + _SIGNATURE.replace(b"(", b"(?:")
    + rb",?)+)\]\}\Z"
)
# SubjectPublicKeyInfo of id-Ed25519: all but the key itself, the last 32 bytes, is always the same.
_PEM = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\s+(MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=)\s+-----END PUBLIC KEY-----"
)
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_PART = re.compile(r"(?!-|\.\.?\Z)[^\\]+\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,99}\Z")
_FILE = {"path", "role", "segments", "sha256", "size"}

_Counters = Dict[str, Dict[str, Dict[str, Any]]]  # key id, name: counter and digest


class VerifyError(Exception):
    """Why a release is refused.

    Attributes:
        code: As ``edgedeploy check --explain CODE`` explains it.
        subject: The file that it is about; empty where it is about none.
    """

    def __init__(self, code: str, why: str, subject: str = "") -> None:
        super().__init__("%.160r: %s" % (subject, why) if subject else why)
        self.code = code
        self.subject = subject


def verify(
    path: str, keys: Iterable[bytes], state: Optional[str] = None, allow_downgrade: bool = False
) -> Dict[str, Any]:
    """Check a bundle, or the folder that one was extracted into, and return what it is.

    Args:
        path: The file or folder.
        keys: The 32 bytes of each public key that is believed; :func:`read_key` reads a file.
        state: File that remembers the newest release of every name; None: no memory.
        allow_downgrade: Take an older release than the one remembered.

    Returns:
        ``release``: the manifest; ``digest``: its SHA-256; ``signers``: ids of the keys.

    Raises:
        VerifyError: It is no bundle (E731), its signature cannot be read (E732) or believed (E736),
            its manifest cannot be used (E734), a file is missing, too many or another (E735);
            with ``state`` as :meth:`Memory.keep`.
        OSError: The bundle cannot be read.
    """
    keys = tuple(keys)
    if os.path.isdir(path):
        found = _verified(_Folder(path), keys)
    else:
        with open(os.open(os.path.realpath(path), _READ), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise VerifyError("E731", "it is no regular file")
            found = _verified(_Archive(file), keys)
    if state is not None:
        Memory(state, allow_downgrade).keep(found, keys)
    return found


def signed(manifest: bytes, envelope: bytes, keys: Iterable[bytes]) -> Dict[str, Any]:
    """Check a manifest that lies apart from its files; returns and raises as :func:`verify`.

    Whoever calls this compares the files that it uses with what the manifest says of them.
    """
    signers = _signers(manifest, envelope, {key_id(key): key for key in keys})
    digest = hashlib.sha256(manifest).hexdigest()
    return {"release": _release(manifest), "digest": digest, "signers": signers}


def key_id(public: bytes) -> str:
    """Return the id of a public key (32 bytes): its SHA-256."""
    return hashlib.sha256(public).hexdigest()


def read_key(path: str) -> bytes:
    """Return the 32 bytes of the public Ed25519 key in a PEM file (RFC 8410).

    Raises:
        ValueError: It holds none.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        found = _PEM.search(file.read(16 << 10))
    if found is None:
        raise ValueError("%s holds no public Ed25519 key in PEM" % path)
    return base64.b64decode(found.group(1))[-32:]


# -- Ed25519 (RFC 8032). Points are extended coordinates (X, Y, Z, T), section 5.1.4.

_P = (1 << 255) - 19
_L = (1 << 252) + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT = pow(2, (_P - 1) // 4, _P)  # of -1
_Point = Tuple[int, int, int, int]
_ZERO = (0, 1, 1, 0)


def is_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether a signature (64 bytes) over a message is that of a public key (32 bytes).

    A key of small order is nobody's: everybody can sign for it.
    """
    if len(public) != 32 or len(signature) != 64:
        return False
    key, s = _point(public), int.from_bytes(signature[32:], "little")
    if key is None or s >= _L or is_weak(public):
        return False
    first = signature[:32]
    k = int.from_bytes(hashlib.sha512(first + public + message).digest(), "little") % _L
    negative = (_P - key[0], key[1], key[2], _P - key[3])
    return _encoded(_sum(s, _BASE, k, negative)) == first


def is_weak(public: bytes) -> bool:
    """Return whether a public key (32 bytes) is a point of small order, or none."""
    point = _point(public)
    for _ in range(3):
        point = point and _plus(point, point)
    return point is None or (point[0] == 0 and point[1] == point[2])


def _point(encoded: bytes) -> Optional[_Point]:
    """Return a point, None where the bytes are none (section 5.1.3)."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * _ROOT % _P
    if x * x % _P != square or (x == 0 and sign):
        return None
    x = x if x & 1 == sign else _P - x
    return (x, y, 1, x * y % _P)


def _encoded(point: _Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _plus(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * _D * one[3] * other[3] % _P
    d = 2 * one[2] * other[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _sum(s: int, one: _Point, k: int, other: _Point) -> _Point:
    """Return ``s * one + k * other``, both in one pass over the bits."""
    table = (_ZERO, one, other, _plus(one, other))
    found = _ZERO
    for at in range(max(s.bit_length(), k.bit_length()) - 1, -1, -1):
        found = _plus(found, found)
        chosen = (s >> at & 1) | (k >> at & 1) << 1
        if chosen:
            found = _plus(found, table[chosen])
    return found


_BASE = _point((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little")) or _ZERO  # section 5.1


# -- The envelope and the manifest.


def _signers(manifest: bytes, envelope: bytes, keys: Dict[str, bytes]) -> List[str]:
    """Return the ids of the keys that vouch for a manifest."""
    found = _ENVELOPE.match(envelope)
    if found is None:
        raise VerifyError("E732", "it is no envelope of a release", ENVELOPE)
    listed = re.findall(_SIGNATURE, found.group(2))
    signatures = {name.decode(): base64.b64decode(text) for name, text in listed}
    # As written again, because base64 has several forms for the same bytes.
    again = b",".join(
        b'{"keyid":"%s","sig":"%s"}' % (name.encode(), base64.b64encode(signatures[name]))
        for name in sorted(signatures)
    )
    if again != found.group(2) or len(signatures) > MOST_SIGNATURES:
        raise VerifyError("E732", "its signatures are not in the canonical form", ENVELOPE)
    if base64.b64encode(manifest) != found.group(1):
        raise VerifyError("E735", "it is not what was signed", MANIFEST)
    message = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE, len(manifest), manifest)
    trusted = [name for name in sorted(signatures) if name in keys]
    if not trusted:
        shown = ", ".join(name[:16] for name in sorted(signatures))
        raise VerifyError("E736", "no trusted key vouches for it: it is signed by %s" % shown)
    for name in trusted:
        if not is_signature(keys[name], message, signatures[name]):
            raise VerifyError("E736", "the signature of %s is not right" % name[:16], ENVELOPE)
    return trusted


def _release(manifest: bytes) -> Dict[str, Any]:
    """Return a signed manifest as data; what is used of it has been checked."""
    try:
        data = json.loads(manifest.decode("utf-8", "surrogatepass"))
        # Also refuses what a JSON reader lets pass: repeated keys, other white space.
        if _canonical(data) != manifest:
            raise ValueError("it is not in the canonical form")
    except (ValueError, RecursionError) as error:
        raise VerifyError("E734", str(error), MANIFEST)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or data["schema"] is True:
        raise VerifyError("E734", "it is of another schema than %d" % SCHEMA, MANIFEST)
    names = (data.get("name"), data.get("version"))
    counter: Any = data.get("counter")
    if not all(isinstance(name, str) and _NAME.match(name) for name in names):
        raise VerifyError("E734", "its name or version is none: %.120r" % (names,), MANIFEST)
    if not _whole(counter) or not 1 <= counter <= MOST_COUNTER:
        raise VerifyError("E734", "its counter is %.60r" % (counter,), MANIFEST)
    _check_files(data.get("files"))
    return data


def _check_files(files: Any) -> None:
    """Refuse files that cannot lie in one folder safely, on any file system."""
    if not isinstance(files, list) or len(files) > MOST_FILES:
        raise VerifyError("E734", "it lists no files, or too many", MANIFEST)
    names: Set[str] = set()
    folders: Set[str] = set()
    sizes: Dict[str, int] = {}
    total, before = 0, ""
    for item in files:
        if not isinstance(item, dict) or set(item) != _FILE:
            raise VerifyError("E734", "a file has missing or unknown fields", MANIFEST)
        path, size, sha256 = item["path"], item["size"], item["sha256"]
        if not isinstance(path, str) or not _is_safe(path):
            raise VerifyError("E734", "a path is not a plain relative one", "%.160s" % (path,))
        if not _whole(size) or size < 0 or not isinstance(sha256, str) or not _HEX.match(sha256):
            raise VerifyError("E734", "its size or digest is none", path)
        folded = _folded(path)
        if path <= before or folded in names or sizes.setdefault(sha256, size) != size:
            raise VerifyError("E734", "it is listed twice or not in order", path)
        before, total = path, total + size
        names.add(folded)
        parts = folded.split("/")
        folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
    if names & folders or {_folded(name) for name in OWN} & (names | folders):
        raise VerifyError("E734", "a file of it is also a folder, or has a name of ours", MANIFEST)
    if total > MOST_BYTES:
        raise VerifyError("E734", "its files have %d bytes, too many" % total, MANIFEST)


def _is_safe(path: str) -> bool:
    parts = path.split("/")
    fits = path.isprintable() and len(path.encode()) <= 1024 and len(parts) <= 64
    return fits and all(_PART.match(part) and len(part.encode()) <= 255 for part in parts)


def _folded(path: str) -> str:
    """Return what file systems that ignore case and forms of accents compare."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# -- The archive, and the folder that it was extracted into.


class _Archive:
    """A bundle's archive; every byte outside of the contents is compared with the one form."""

    whole = False  # files of equal content lie in it once

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: Dict[str, Tuple[int, int]] = {}
        self.sizes: Dict[str, int] = {}
        end, at, entries = file.seek(0, 2), 0, []  # type: int, int, List[bytes]
        while True:
            file.seek(at)
            head = file.read(30)
            if len(head) != 30 or head[:4] != b"PK\3\4":
                break
            at, entry = self._member(at, head, end, len(entries))
            entries.append(entry)
        if list(self.sizes) != sorted(self.sizes) or len(entries) != len(self.sizes):
            raise VerifyError("E731", "its members are not sorted, or one is there twice")
        wanted = _directory(entries, at)
        file.seek(at)
        if at + len(wanted) != end or file.read(len(wanted) + 1) != wanted:
            raise VerifyError("E731", "its directory is another, or something follows it")

    def _member(self, at: int, head: bytes, end: int, count: int) -> Tuple[int, bytes]:
        """Read a local header; return where the next begins, and its directory entry."""
        crc, _, size, name_bytes, extra_bytes = struct.unpack("<LLLHH", head[14:])
        if count >= MOST_MEMBERS or not 0 < name_bytes <= 1024 or extra_bytes not in (0, 20):
            raise VerifyError("E731", "the header at byte %d is not one of ours" % at)
        name, extra = self._file.read(name_bytes), self._file.read(extra_bytes)
        if extra:
            size = int.from_bytes(extra[4:12], "little")
        most = 0xFFFFFFFF
        wide = struct.pack("<HHQQ", 1, 16, size, size) if size >= most else b""
        shown = min(size, most)
        version = 45 if wide else 20
        about = struct.pack("<HHHHLLLH", 1 << 11, 0, 0, 33, crc, shown, shown, name_bytes)
        local = b"PK\3\4" + struct.pack("<H", version) + about + struct.pack("<H", len(wide))
        try:
            path = name.decode()
        except UnicodeDecodeError:
            raise VerifyError("E731", "the name at byte %d is not UTF-8" % at)
        begin = at + 30 + name_bytes + extra_bytes
        if head + name + extra != local + name + wide or begin + size > end:
            raise VerifyError("E731", "its header is another, or it is cut off", path)
        self._places[path], self.sizes[path] = (begin, crc), size
        far = struct.pack("<QQ", size, size) if wide else b""
        far += struct.pack("<Q", at) if at >= most else b""
        far = struct.pack("<HH", 1, len(far)) + far if far else b""
        version = 45 if far else 20
        entry = b"PK\1\2" + struct.pack("<HH", 3 << 8 | version, version) + about
        tail = struct.pack("<HHHHLL", len(far), 0, 0, 0, 0o100644 << 16, min(at, most))
        return begin + size, entry + tail + name + far

    def parts(self, path: str) -> Iterator[bytes]:
        """Yield the content of a member."""
        (begin, crc), left = self._places[path], self.sizes[path]
        self._file.seek(begin)
        found = 0
        while left:
            data = self._file.read(min(left, CHUNK_BYTES))
            if not data:
                raise VerifyError("E731", "%.120r is cut off" % path)
            found, left = zlib.crc32(data, found), left - len(data)
            yield data
        if found != crc:
            raise VerifyError("E735", "its content is another", path)


def _directory(entries: List[bytes], at: int) -> bytes:
    """Return the directory that begins at a byte, and what ends the archive."""
    content, count = b"".join(entries), len(entries)
    size, end = len(content), b""
    if at >= 0xFFFFFFFF:
        sizes = (44, 3 << 8 | 45, 45, 0, 0, count, count, size, at)
        end = b"PK\6\6" + struct.pack("<QHHLLQQQQ", *sizes)
        end += b"PK\6\7" + struct.pack("<LQL", 0, at + size, 1)
    shown = min(at, 0xFFFFFFFF)
    end += struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, count, count, size, shown, 0)
    return content + end


class _Folder:
    """A folder that a bundle was extracted into: regular files and folders alone."""

    whole = True

    def __init__(self, root: str) -> None:
        self._root = root
        self.sizes: Dict[str, int] = {}
        for base, folders, names in os.walk(root, onerror=_raise):
            for name in folders + names:
                place = os.path.join(base, name)
                path, about = os.path.relpath(place, root).replace(os.sep, "/"), os.lstat(place)
                if stat.S_ISREG(about.st_mode) and len(self.sizes) < MOST_MEMBERS:
                    self.sizes[path] = about.st_size
                elif not stat.S_ISDIR(about.st_mode):
                    raise VerifyError("E735", "it is no file, or one too many", path)

    def parts(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file; one that grows is not read to its end."""
        with open(os.open(os.path.join(self._root, path), _READ), "rb") as file:
            for _ in range(0, self.sizes[path] + CHUNK_BYTES, CHUNK_BYTES):
                yield file.read(CHUNK_BYTES)


def _raise(error: OSError) -> None:
    raise error


def _read(source: Any, path: str, limit: int) -> bytes:
    if source.sizes[path] > limit:
        raise VerifyError("E731", "it has more than %d bytes" % limit, path)
    return b"".join(source.parts(path))


def _verified(source: Any, keys: Iterable[bytes]) -> Dict[str, Any]:
    sizes = source.sizes
    for name in sorted(set(OWN) - set(sizes)):
        raise VerifyError("E735", "it is missing", name)
    manifest = _read(source, MANIFEST, MOST_MANIFEST_BYTES)
    found = signed(manifest, _read(source, ENVELOPE, 2 * MOST_MANIFEST_BYTES), keys)
    files = found["release"]["files"]
    first: Dict[str, str] = {}
    for item in files:
        first.setdefault(item["sha256"], item["path"])
    wanted = [item for item in files if source.whole or first[item["sha256"]] == item["path"]]
    for path in sorted(set(sizes) - set(OWN) - {item["path"] for item in wanted}):
        raise VerifyError("E735", "it is there and not in the manifest", path)
    sums = "".join("%s  %s\n" % (item["sha256"], item["path"]) for item in files).encode()
    if _read(source, SUMS, MOST_MANIFEST_BYTES) != sums:
        raise VerifyError("E735", "it does not say what the manifest says", SUMS)
    for item in wanted:
        path = item["path"]
        if path not in sizes:
            raise VerifyError("E735", "it is missing", path)
        digest = hashlib.sha256()
        for data in source.parts(path) if sizes[path] == item["size"] else ():
            digest.update(data)
        if sizes[path] != item["size"] or digest.hexdigest() != item["sha256"]:
            raise VerifyError("E735", "its content is another", path)
    return found


# -- The memory of what was taken, against older releases.


class Memory:
    """The newest release of every name that was taken, by key, in one file.

    A name is looked up under all keys that are believed together, so that the old key of a
    publisher cannot bring back what a new one replaced. What was remembered is never lowered.

    Args:
        path: The file, canonical JSON; made when the first release is kept.
        allow_downgrade: Take an older release than the newest.
    """

    def __init__(self, path: str, allow_downgrade: bool = False) -> None:
        self.path = path
        self._allow_downgrade = allow_downgrade

    def check(self, found: Dict[str, Any], keys: Iterable[bytes]) -> List[str]:
        """Return the signers to whom a release (from :func:`verify` with the same keys) is news.

        Raises:
            VerifyError: A newer one was taken (E738), or another of the same counter (E739); the
                file cannot be believed (E740) or read (E741).
        """
        name, counter = found["release"]["name"], found["release"]["counter"]
        counters = self._read()
        taken = [counters[key][name] for key in map(key_id, keys) if name in counters.get(key, {})]
        for item in taken:
            if item["counter"] == counter and item["digest"] != found["digest"]:
                why = "another release with counter %d was taken: %s" % (counter, item["digest"])
                raise VerifyError("E739", why, name)
        newest = max([item["counter"] for item in taken] or [0])
        if counter < newest and not self._allow_downgrade:
            raise VerifyError("E738", "counter %d, but %d was taken" % (counter, newest), name)
        none = {"counter": 0}
        known = {key: names.get(name, none)["counter"] for key, names in counters.items()}
        return [signer for signer in found["signers"] if known.get(signer, 0) < counter]

    def keep(self, found: Dict[str, Any], keys: Iterable[bytes]) -> None:
        """Remember a release, durably, after :meth:`check`; E741 when it cannot be written."""
        keys = tuple(keys)
        if not self.check(found, keys):
            return
        release = found["release"]
        try:
            folder = os.path.dirname(os.path.abspath(self.path))
            os.makedirs(folder, 0o700, exist_ok=True)
            import fcntl

            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            handle = os.open(self.path + ".lock", flags, 0o600)
            with open(handle, "rb+"):
                fcntl.flock(handle, fcntl.LOCK_EX)
                news, counters = self.check(found, keys), self._read()
                for signer in news:
                    taken = {"counter": release["counter"], "digest": found["digest"]}
                    counters.setdefault(signer, {})[release["name"]] = taken
                self._write(folder, counters)
        except (OSError, ImportError) as error:
            raise VerifyError("E741", "it cannot be written: %s" % error, self.path)

    def _read(self) -> _Counters:
        try:
            file = open(os.open(self.path, _READ), "rb")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise VerifyError("E741", "it cannot be read: %s" % error, self.path)
        with file:
            about = os.fstat(file.fileno())
            ours = about.st_uid in (0, os.geteuid()) and not about.st_mode & 0o022
            if not stat.S_ISREG(about.st_mode) or not ours:
                raise VerifyError("E740", "it is no file that we alone may write", self.path)
            content = file.read(MOST_STATE_BYTES)
        try:
            data = json.loads(content.decode())
            if content != _canonical({"schema": SCHEMA, "counters": data["counters"]}):
                raise ValueError
            counters = data["counters"]  # type: _Counters
            for key, names in counters.items():
                for item in names.values():
                    fits = sorted(item) == ["counter", "digest"] and _whole(item["counter"])
                    if not fits or not _HEX.match(key) or not _HEX.match(item["digest"]):
                        raise ValueError
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise VerifyError("E740", "it is damaged, or of another schema", self.path)
        return counters

    def _write(self, folder: str, counters: _Counters) -> None:
        part = self.path + ".part"  # the lock is held: nobody else writes it
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(part, flags, 0o600), "wb") as file:
            file.write(_canonical({"schema": SCHEMA, "counters": counters}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _canonical(data: Any) -> bytes:
    text = json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8", "surrogatepass")


def main(arguments: Optional[List[str]] = None) -> int:
    """Check what the command line names, say so in one line, and return the exit status."""
    parser = argparse.ArgumentParser(description="Check a signed release of edgedeploy.")
    parser.add_argument("bundle", help="bundle (.edpkg), or folder that one was extracted into")
    parser.add_argument("--key", action="append", required=True, help="public key (PEM); repeat")
    parser.add_argument("--state", help="file that remembers the newest release of every name")
    parser.add_argument("--allow-downgrade", action="store_true", help="take an older one")
    given = parser.parse_args(arguments)
    try:
        keys = [read_key(path) for path in given.key]
        found = verify(given.bundle, keys, given.state, given.allow_downgrade)
    except ValueError as error:
        print("E752: %s" % error, file=sys.stderr)
        return 2
    except VerifyError as error:
        print("%s: %s" % (error.code, ascii(str(error))[1:-1]), file=sys.stderr)
        return 6 if error.code == "E741" else 7
    except OSError as error:
        print("E602: %s" % error, file=sys.stderr)
        return 6
    release = found["release"]
    print("%s %s, counter %d" % (release["name"], release["version"], release["counter"]))
    print("sha256 %s, signed by %s" % (found["digest"], ", ".join(found["signers"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
