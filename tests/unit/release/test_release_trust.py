"""The trust file: who is enrolled, who hands over to whom, and who is believed no more."""

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedeploy.errors import EdgedeployError
from edgedeploy.manifest import canonical
from edgedeploy.plaindata import to_plain
from edgedeploy.release.keys import SigningKey
from edgedeploy.release.signing import envelope, sign
from edgedeploy.release.statements import PAYLOAD_TYPE, Statement, read_statement, state
from edgedeploy.release.trust import Trust, change_trust, parse_trust, read_trust
from tests.unit.release.made import key_of

A, B, C, D = KEYS = tuple(key_of(number) for number in (11, 12, 13, 14))
FIRST = Trust().with_key("acme", A.public)


def hands_over(old: SigningKey, new: SigningKey) -> bytes:
    """Return the statement by which a key hands over to another."""
    return state(Statement(act="rotate", key=old.id, public=new.public.hex()), old)


def revokes(signer: SigningKey, key: SigningKey, reason: str = "stolen") -> bytes:
    """Return a statement that a key is believed no more."""
    return state(Statement(act="revoke", key=key.id, reason=reason), signer)


def code_of(act, *arguments: object) -> str:
    """Return the code with which something is refused."""
    with pytest.raises(EdgedeployError) as caught:
        act(*arguments)
    return caught.value.diagnostics[0].code


def test_a_key_hands_over_and_is_believed_until_it_is_revoked() -> None:
    both = FIRST.taking(hands_over(A, B))
    assert set(both.believed) == {A.id, B.id}
    assert [(key.name, key.by) for key in both.keys] == [("acme", None), ("acme", A.id)]
    last = both.taking(hands_over(B, C)).taking(revokes(C, A))
    assert set(last.believed) == {B.id, C.id}
    assert last.revoked == {A.id: "stolen"}
    assert last.believed[C.id] == C.public


def test_what_was_said_before_changes_nothing() -> None:
    both = FIRST.taking(hands_over(A, B))
    assert both.taking(hands_over(A, B)) is both
    gone = both.taking(revokes(A, A))
    assert gone.taking(revokes(A, A)) is gone
    assert gone.taking(hands_over(A, B)) is gone


def test_a_stolen_key_cannot_hand_over_once_more_or_after_it_was_revoked() -> None:
    both = FIRST.taking(hands_over(A, B))
    assert code_of(both.taking, hands_over(A, D)) == "E745"
    gone = FIRST.without(A.id, "stolen")
    assert code_of(gone.taking, hands_over(A, D)) == "E745"
    assert code_of(gone.with_key, "acme", A.public) == "E747"


def test_a_key_cannot_revoke_its_successor_or_a_stranger() -> None:
    both = FIRST.with_key("other", D.public).taking(hands_over(A, B))
    assert code_of(both.taking, revokes(A, B)) == "E745"
    assert code_of(both.taking, revokes(D, A)) == "E745"
    assert code_of(both.taking, revokes(B, C)) == "E745"
    assert both.taking(revokes(B, A)).revoked == {A.id: "stolen"}


def test_nobody_hands_over_for_another_key_or_to_one_that_is_known() -> None:
    two = FIRST.with_key("other", D.public)
    foreign = state(Statement(act="rotate", key=D.id, public=B.public.hex()), A)
    assert code_of(two.taking, foreign) == "E745"
    assert code_of(two.taking, hands_over(B, C)) == "E745"
    assert code_of(two.taking, hands_over(A, D)) == "E745"
    assert code_of(two.taking, hands_over(A, A)) == "E745"


def test_a_signature_of_another_kind_or_key_says_nothing() -> None:
    """A release that the key signed is no statement, and a copied key id no signature."""
    payload = canonical(to_plain(Statement(act="rotate", key=A.id, public=B.public.hex())))
    as_release = envelope(payload, [sign(payload, A.public, A.sign)])
    assert code_of(FIRST.taking, as_release) == "E745"
    mixed = envelope(payload, [sign(payload, A.public, A.sign)], PAYLOAD_TYPE)
    assert code_of(FIRST.taking, mixed) == "E745"
    forged = replace(sign(payload, B.public, B.sign, PAYLOAD_TYPE), keyid=A.id)
    assert code_of(FIRST.taking, envelope(payload, [forged], PAYLOAD_TYPE)) == "E745"
    twice = [sign(payload, key.public, key.sign, PAYLOAD_TYPE) for key in (A, B)]
    assert code_of(FIRST.taking, envelope(payload, twice, PAYLOAD_TYPE)) == "E745"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": True},
        {"act": "enrol"},
        {"key": "A" * 64},
        {"key": None},
        {"public": None},
        {"public": "00" * 32},  # of small order
        {"public": "01" + "00" * 31},  # the neutral point
        {"reason": "a key that hands over has none"},
        {"act": "revoke"},
        {"act": "revoke", "public": None, "reason": "two\nlines"},
        {"act": "revoke", "public": None, "reason": "x" * 201},
        {"more": 1},
    ],
)
def test_a_signed_statement_that_says_nonsense(change: dict[str, object]) -> None:
    data = to_plain(Statement(act="rotate", key=A.id, public=B.public.hex())) | change
    payload = canonical(data)
    content = envelope(payload, [sign(payload, A.public, A.sign, PAYLOAD_TYPE)], PAYLOAD_TYPE)
    assert code_of(FIRST.taking, content) == "E745"


@given(st.integers(0, 10**6), st.integers(1, 255), st.sampled_from(["flip", "cut", "add"]))
@settings(max_examples=150, deadline=None)
def test_a_damaged_statement_is_not_taken(at: int, bits: int, how: str) -> None:
    good = hands_over(A, B)
    at %= len(good)
    bad = {
        "flip": good[:at] + bytes([good[at] ^ bits]) + good[at + 1 :],
        "cut": good[:at],
        "add": good[:at] + bytes([bits]) + good[at:],
    }[how]
    assert code_of(FIRST.taking, bad) == "E745"
    assert code_of(read_statement, b"x" * (1 << 17)) == "E745"


ACTS = st.tuples(st.sampled_from(["enrol", "rotate", "revoke", "drop"]), *[st.integers(0, 3)] * 2)


@given(st.lists(ACTS, max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_history_is_what_its_rules_say(acts: list[tuple[str, int, int]]) -> None:
    """Against a model of sets, which knows nothing of signatures; and the file says it again."""
    trust, known, gone = Trust(), dict[int, int | None](), set[int]()
    for act, one, other in acts:
        before, line = trust, [one]
        while line[-1] in known and known[line[-1]] is not None:
            line.append(known[line[-1]])
        believed = one in known and one not in gone
        if act == "enrol":
            may = one not in known
        elif act == "rotate":
            may = believed and other not in known and one not in known.values()
        elif act == "revoke":
            may = believed and other in line
        else:
            may = one in known
        try:
            if act == "enrol":
                trust = trust.with_key("acme", KEYS[one].public)
            elif act == "rotate":
                trust = trust.taking(hands_over(KEYS[one], KEYS[other]))
            elif act == "revoke":
                trust = trust.taking(revokes(KEYS[one], KEYS[other]))
            else:
                trust = trust.without(trust.found(KEYS[one].id).id, "lost")
        except EdgedeployError:
            assert not may
            continue
        if may:
            known |= {one: None} if act == "enrol" else {other: one} if act == "rotate" else {}
            gone |= {other} if act == "revoke" else {one} if act == "drop" else set()
        else:
            assert trust is before, "it was taken before"
        assert set(trust.believed) == {KEYS[at].id for at in set(known) - gone}
        assert set(trust.revoked) == {KEYS[at].id for at in gone}
        assert parse_trust(canonical(to_plain(trust))) == trust


def test_a_key_is_named_by_its_beginning_or_its_publisher() -> None:
    two = FIRST.with_key("other", D.public)
    assert two.found("acme").id == two.found(A.id).id == two.found(A.id[:8]).id == A.id
    assert code_of(two.found, A.id[:7]) == "E747"
    assert code_of(two.found, "nobody") == "E747"
    assert code_of(two.taking(hands_over(A, B)).found, "acme") == "E747"
    for name in ("", "two words", "-x", "a" * 101, "a\n"):
        assert code_of(two.with_key, name, B.public) == "E747"
    assert code_of(two.with_key, "acme", A.public) == "E747"
    assert code_of(two.with_key, "acme", bytes(32)) == "E747"
    for reason in ("", "two\nlines", "x" * 201):
        assert code_of(two.without, A.id, reason) == "E747"


def lies() -> list[dict[str, object]]:
    """Return what trust files could say that contradicts itself."""
    whole = to_plain(FIRST.taking(hands_over(A, B)).taking(revokes(B, A)))
    first, second = whole["keys"]
    return [
        whole | {"schema": 2},
        whole | {"statements": []},
        whole | {"keys": [first]},
        whole | {"keys": [second, first]},
        whole | {"keys": [first, first | {"by": A.id}]},
        whole | {"keys": [first, second | {"by": None}]},
        whole | {"keys": [first, second | {"name": "other"}]},
        whole | {"keys": [first | {"revoked": None}, second]},
        whole | {"keys": [first | {"revoked": ""}, second]},
        whole | {"keys": [first, second | {"public": C.public.hex()}]},
        whole | {"statements": [*whole["statements"], hands_over(A, C).decode()]},
        whole | {"statements": [*whole["statements"], hands_over(C, D).decode()]},
        whole | {"more": 1},
    ]


@pytest.mark.parametrize("said", lies())
def test_a_trust_file_that_contradicts_itself(tmp_path: Path, said: dict[str, object]) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(canonical(said))
    path.chmod(0o644)
    assert code_of(read_trust, path) == "E743"


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff", b'{"keys":[], "schema":1,"statements":[]}', b"[" * 9999]
)
def test_a_damaged_trust_file_is_refused_and_left(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(content)
    path.chmod(0o644)
    assert code_of(read_trust, path) == "E743"
    assert code_of(change_trust, path, lambda _: FIRST) == "E743"
    assert path.read_bytes() == content


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    before = os.umask(0)
    try:
        change_trust(path, lambda _: FIRST)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert read_trust(path) == FIRST
    for mode in (0o664, 0o646):
        path.chmod(mode)
        assert code_of(read_trust, path) == "E743"
    os.mkfifo(tmp_path / "pipe", 0o644)
    assert code_of(read_trust, tmp_path / "pipe") == "E743"
    assert code_of(read_trust, tmp_path / "none") == "E753"


def test_a_link_to_a_trust_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("trust.json")
    change_trust(tmp_path / "link", lambda _: FIRST)
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "trust.json").read_bytes())["keys"][0]["name"] == "acme"


def _enrols(path: Path, number: int) -> None:
    change_trust(path, lambda before: before.with_key(f"p{number}", key_of(number).public))


def test_many_at_once_forget_nobody(tmp_path: Path) -> None:
    path, context = tmp_path / "trust.json", multiprocessing.get_context("fork")
    jobs = [context.Process(target=_enrols, args=(path, number)) for number in range(20, 28)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert {key.name for key in read_trust(path).keys} == {f"p{number}" for number in range(20, 28)}
