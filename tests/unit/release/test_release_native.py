"""The check of a release without Python: its arithmetic, and every mutation under sanitizers."""

import hashlib
import itertools
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from edgedeploy.manifest import canonical
from edgedeploy.release.archive import write_archive
from edgedeploy.release.verify_file import VerifyError, is_signature
from edgedeploy.release.verify_file import verify as verify_alone
from tests.unit.devices.trusting import (
    ACME,
    APP,
    TARGET,
    files_of,
    release_of,
    trust_bytes,
)
from tests.unit.release import made
from tests.unit.release.mutations import Mutator
from tests.unit.release.test_verify_file import vectors

SOURCES = Path(__file__).parents[3] / "edgedeploy/native"
FLAGS = (
    *("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror"),
    *("-fsanitize=undefined,address", "-fno-sanitize-recover=all"),
)

# Answers lines of KEY MESSAGE SIGNATURE, in digits: whether it is one, and the message's digests.
HARNESS = r"""
#include "release.h"
#include <stdio.h>
static size_t bytes_of(unsigned char *to, const char *text) {
    size_t count = 0;
    unsigned value;
    for (; *text && text[1] && sscanf(text, "%2x", &value) == 1; text += 2)
        to[count++] = (unsigned char)value;
    return count;
}
int main(void) {
    static char key[99], message[9000], signature[999];
    static unsigned char k[50], m[4500], s[500], found[64];
    while (scanf("%98s %8998s %998s", key, message, signature) == 3) {
        size_t size = bytes_of(m, message + 1), length = bytes_of(s, signature + 1), i;
        digest d;
        bytes_of(k, key);
        /* In two parts, as the prefix and the manifest come. */
        i = size / 2;
        printf("%d ", length == 64 && is_signature(k, m, i, m + i, size - i, s));
        digest_begin(&d, 0);
        digest_add(&d, m, size);
        digest_end(&d, found);
        for (i = 0; i < 32; i++)
            printf("%02x", found[i]);
        putchar(' ');
        digest_begin(&d, 1);
        digest_add(&d, m, size);
        digest_end(&d, found);
        for (i = 0; i < 64; i++)
            printf("%02x", found[i]);
        putchar('\n');
    }
    return 0;
}
"""

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the runner, compiled with what finds faults in memory."""
    program = tmp_path_factory.mktemp("runner") / "runner"
    command = ["gcc", *FLAGS, "-o", program, *sorted(SOURCES.glob("*.c")), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def test_arithmetic(tmp_path: Path) -> None:
    """All vectors of Wycheproof, and digests of every length around the blocks'."""
    (tmp_path / "harness.c").write_text(HARNESS)
    program = tmp_path / "harness"
    sources = [tmp_path / "harness.c", SOURCES / "digest.c", SOURCES / "signature.c"]
    subprocess.run(["gcc", *FLAGS, f"-I{SOURCES}", "-o", program, *sources], check=True)
    rows = [(key, message, sig) for _, _, key, message, sig in vectors()]
    rows += [(made.KEY.public, bytes(range(size % 256)) + b"x" * size, b"") for size in range(260)]
    given = "".join(f"{key.hex()} m{message.hex()} s{sig.hex()}\n" for key, message, sig in rows)
    done = subprocess.run([program], input=given, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert len(said) == len(rows)
    for line, (key, message, signature) in zip(said, rows, strict=True):
        right = len(signature) == 64 and is_signature(key, message, signature)
        sums = hashlib.sha256(message).hexdigest(), hashlib.sha512(message).hexdigest()
        assert line.split() == [str(int(right)), *sums]


def check(runner: Path, bundle: Path, *keys: str) -> tuple[int, list[str]]:
    """Run the check; return its status and its words."""
    command = [runner, "-", "verify", bundle, *(keys or (made.KEY.public.hex(),))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "", done.stderr  # where sanitizers speak
    return done.returncode, done.stdout.split()


def test_a_right_bundle(runner: Path, tmp_path: Path) -> None:
    """What it says of it, and who of several signed."""
    release = made.release_of()
    path = made.write(tmp_path)
    said = ["release", "doorbell", "1.0.0", "7", release.digest, "signed", made.KEY.id, "end"]
    assert check(runner, path) == (0, said)
    other = made.OTHER.public.hex()
    assert check(runner, path, other, made.KEY.public.hex()) == (0, said)
    assert check(runner, path, other)[0] == 7 and check(runner, path, "ab")[0] == 2
    both = made.write(tmp_path, keys=(made.KEY, made.OTHER))
    assert check(runner, both, other) == (0, [*said[:6], made.OTHER.id, "end"])
    assert check(runner, tmp_path / "missing")[0] == 6 and check(runner, tmp_path)[0] == 7
    content = {"empty": b"", 'quo"te': b"x", "Ünï/cödé": bytes(200_000)}
    odd = made.write(tmp_path, made.release_of(content), contents=content)
    assert check(runner, odd)[0] == 0


def test_every_mutation_is_refused(runner: Path, tmp_path: Path) -> None:
    """With the code that the other readers give."""
    path = tmp_path / "mutated"
    for mutation in itertools.islice(Mutator(tmp_path, 3), 60):
        path.write_bytes(mutation.content)
        code, words = check(runner, path)
        assert (code, words[:2]) == (7, ["failed", "verify"]), mutation.what
        with pytest.raises(VerifyError) as caught:
            verify_alone(str(path), [made.KEY.public])
        if b"a\0b" not in mutation.content:  # a name that ends there in C
            assert words[2][:4] == caught.value.code, mutation.what


def test_signed_nonsense_does_not_break_it(runner: Path, tmp_path: Path) -> None:
    """Manifests that a stolen key signed: refused, or (what is not read there) taken."""
    chosen, release, path = random.Random(5), made.release_of(), tmp_path / "nonsense"
    good = release.manifest
    listed = json.loads(good)
    odd = [b"", b"{", b"[]", b"\\", b'{"', b'{"a":' * 999, b"[" * 9999, b'{"a":"\\', b"null"]
    odd += [canonical({**listed, "files": value}) for value in ({}, [1], [[]], "x", None, [{}])]
    odd += [canonical({**listed, "counter": value}) for value in (0, -1, 1 << 53, "1", 10**30)]
    odd += [canonical({**listed, name: value}) for name in ("name", "version") for value in ("", 1)]
    odd += [
        good.replace(b'"schema":1', b'"schema":2'),
        good + b"x",
        good.replace(b'"files"', b'"f"'),
    ]
    for path_of_file in ("../x", "/x", "a//b", "a/../b", "-a", "a\\b", "a\nb", ""):
        file = {**listed["files"][0], "path": path_of_file}
        odd.append(canonical({**listed, "files": [file]}))
    for manifest in odd:
        write_archive(path, made.members(release, manifest=manifest))
        code, words = check(runner, path)
        assert (code, words[2][:4]) == (7, "E734"), manifest[:200]
    for _ in range(20):
        content = bytearray(good)
        for _ in range(chosen.randrange(1, 9)):
            content[chosen.randrange(len(content))] = chosen.randrange(256)
        write_archive(path, made.members(release, manifest=bytes(content)))
        assert check(runner, path)[0] in (0, 7)


def test_a_folder_is_checked_as_the_bundle_is(runner: Path, tmp_path: Path) -> None:
    """What `verify --extract` wrote, and every change of it, with the code of the other readers."""
    folder, key = tmp_path / "folder", made.KEY.public
    for path, content in {**made.CONTENTS, **made.members(made.release_of())}.items():
        assert isinstance(content, bytes)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    assert check(runner, folder)[0] == 0
    chosen = random.Random(17)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(40):
        place = chosen.choice(files)
        before, content = place.read_bytes(), bytearray(place.read_bytes())
        kind = chosen.randrange(4)
        if kind == 0 and content:
            content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
            place.write_bytes(content)
        elif kind == 1:
            place.unlink()
        elif kind == 2:
            place.write_bytes(before + b"x")
        else:
            place.unlink()
            place.symlink_to("/etc/passwd")
        with pytest.raises(VerifyError) as caught:
            verify_alone(str(folder), [key])
        code, words = check(runner, folder)
        assert (code, words[2][:4]) == (7, caught.value.code), (place, kind)
        place.unlink(missing_ok=True)
        place.write_bytes(before)
    (folder / "more").write_bytes(b"")
    assert check(runner, folder)[1][2].startswith("E735")


def admission(runner: Path, folder: Path, *words: str) -> tuple[int, list[str]]:
    """Ask whether the version in a folder may become active; return status and words."""
    places = [folder / "version", TARGET, folder / "trust.json", folder / "releases.json"]
    command = [runner, "-", "admit", *places, *(words or (APP, "0"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout.split()


def test_damage_of_what_is_admitted(runner: Path, tmp_path: Path) -> None:
    """Random bytes in a version, the trust file and the memory: refused, and nothing breaks."""
    files = {**files_of(release_of()), "manifest.json": b"{}"}
    for path, content in files.items():
        (tmp_path / "version" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "version" / path).write_bytes(content)
    trust, memory = tmp_path / "trust.json", tmp_path / "releases.json"
    trust.write_bytes(trust_bytes(ACME.with_key("other", made.OTHER.public)))
    code, words = admission(runner, tmp_path)
    assert (code, words[:4], words[-1]) == (0, ["release", APP, "1.7.0", "7"], "end")
    memory.write_text(words[words.index("memory") + 1])
    assert "memory" not in admission(runner, tmp_path)[1]  # it is no news any more
    assert admission(runner, tmp_path, "intercom", "0")[1][2].startswith("E776")
    chosen = random.Random(23)
    places = [trust, memory, *(tmp_path / "version" / path for path in files)]
    for _ in range(60):
        place = chosen.choice(places[:-1])  # the version's own manifest is the agent's to check
        content = bytearray(place.read_bytes())
        before = bytes(content)
        content[chosen.randrange(len(content))] = chosen.randrange(256)
        if chosen.randrange(3) == 0:
            del content[chosen.randrange(len(content)) :]
        place.write_bytes(content)
        code, words = admission(runner, tmp_path)
        place.write_bytes(before)
        if bytes(content) == before:
            continue
        # In the memory another digit is another memory, and so is another name of a publisher.
        assert code == 7 or (code == 0 and place in (trust, memory)), (place, words)
        if code == 7:
            assert words[2].startswith("E7"), words
