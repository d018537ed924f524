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
