"""Whatever is done to a bundle, it is refused, by both readers for the same reason (F250)."""

import itertools
from collections import Counter
from pathlib import Path

import pytest

from edgedeploy.errors import IntegrityError
from edgedeploy.release.opening import open_bundle
from edgedeploy.release.verify_file import VerifyError
from edgedeploy.release.verify_file import verify as verify_alone
from edgedeploy.release.verifying import VerifyOptions, verify
from tests.unit.release import made
from tests.unit.release.mutations import Mutation, Mutator

SAMPLE = 100


def public(folder: Path) -> Path:
    """Write the publisher's public key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PublicKey.from_public_bytes(made.KEY.public)
    path = folder / "key.pub"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, form))
    return path


def tree(folder: Path) -> list[str]:
    """Return everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def check(mutation: Mutation, folder: Path) -> str:
    """Assert that both readers refuse it and write nothing; return the code."""
    bundle = folder / "in/bundle.edpkg"
    bundle.write_bytes(mutation.content)
    before = tree(folder)
    options = VerifyOptions(
        keys=(folder / "key.pub",), state=folder / "state.json", extract=folder / "out"
    )
    with pytest.raises(IntegrityError) as caught:
        verify(bundle, options)
    assert tree(folder) == before, mutation.what
    finding = caught.value.diagnostics[0]
    with pytest.raises(VerifyError) as alone:
        verify_alone(str(bundle), [made.KEY.public], str(folder / "state.json"))
    assert tree(folder) == before, mutation.what
    assert alone.value.code == finding.code, (mutation.what, finding.message, str(alone.value))
    if mutation.named is not None:
        assert finding.subject == mutation.named, (mutation.what, finding.message)
        assert alone.value.subject == mutation.named, mutation.what
    return finding.code


def run(folder: Path, seed: int, count: int) -> Counter[str]:
    """Check that many mutations; return how often each code came."""
    (folder / "in").mkdir(parents=True)
    public(folder)
    made_here = folder.parent / f"{folder.name}-made"
    made_here.mkdir()
    mutator = Mutator(made_here, seed)
    return Counter(check(item, folder) for item in itertools.islice(mutator, count))


def test_a_sample_of_mutations_is_refused(tmp_path: Path) -> None:
    """Every kind of mutation five times; `make soak` does a thousand and more."""
    codes = run(tmp_path / "box", seed=1, count=SAMPLE)
    assert codes.total() == SAMPLE
    assert set(codes) == {"E731", "E732", "E735", "E736"}


def test_what_is_mutated_is_right(tmp_path: Path) -> None:
    """Both readers take the bundle that the mutations are made from, for what it is."""
    path = made.write(tmp_path)
    with open_bundle(path, made.TRUSTED) as bundle:
        release, signers = bundle.release, bundle.signers
        contents = {file.path: bundle.read(file.path) for file in release.files}
    assert release == made.release_of() and signers == (made.KEY.id,)
    assert contents == made.CONTENTS
    found = verify_alone(str(path), [made.KEY.public])
    assert (found["digest"], found["signers"]) == (release.digest, [made.KEY.id])


def test_signatures_of_others_change_nothing(tmp_path: Path) -> None:
    """A second signer's, known or not; but one of a key that is believed has to be right."""
    both = made.write(tmp_path, keys=(made.KEY, made.OTHER))
    ids = sorted((made.KEY.id, made.OTHER.id))
    for keys, signers in (
        ([made.KEY], [made.KEY.id]),
        ([made.OTHER], [made.OTHER.id]),
        ([made.KEY, made.OTHER], ids),
    ):
        with open_bundle(both, {key.id: key.public for key in keys}) as bundle:
            assert list(bundle.signers) == signers
        assert verify_alone(str(both), [key.public for key in keys])["signers"] == signers


def test_no_key_at_all_believes_nobody(tmp_path: Path) -> None:
    """An empty set of keys is no permission."""
    path = made.write(tmp_path)
    with pytest.raises(IntegrityError, match="no trusted key"), open_bundle(path, {}):
        pass
    with pytest.raises(VerifyError, match="no trusted key"):
        verify_alone(str(path), [])
