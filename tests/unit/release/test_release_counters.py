"""``edgedeploy.releases``: every release gets one counter, wherever it is made."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from edgedeploy.errors import ProfileError
from edgedeploy.release.counters import (
    NAME,
    Counted,
    counter_for,
    holding,
    keep_counted,
    read_counted,
)
from tests.unit.release.described import described_release


def made(counter: int, version: str) -> Counted:
    """Return a release that was made."""
    return Counted(counter=counter, version=version, digest=f"{counter:064x}")


def code_of(act, *arguments: object) -> str:
    """Return the code with which something is refused."""
    with pytest.raises(ProfileError) as caught:
        act(*arguments)
    return caught.value.diagnostics[0].code


PAST = (made(2, "1.0"), made(7, "1.1"))


@pytest.mark.parametrize(
    ("before", "version", "wanted", "given"),
    [
        ((), "1.0", None, 1),
        ((), "1.0", 40, 40),
        (PAST, "1.2", None, 8),
        (PAST, "0.9", None, 8),  # counters follow the time, not the version
        (PAST, "1.2", 9, 9),
        (PAST, "1.0", None, 2),
        (PAST, "1.0", 2, 2),
    ],
)
def test_a_release_gets_its_counter(
    before: tuple[Counted, ...], version: str, wanted: int | None, given: int
) -> None:
    assert counter_for(before, version, wanted) == given


@pytest.mark.parametrize(("version", "wanted"), [("1.0", 3), ("1.0", 8), ("1.2", 7), ("1.2", 1)])
def test_a_counter_is_given_once(version: str, wanted: int) -> None:
    assert code_of(counter_for, PAST, version, wanted) == "E749"


def test_what_was_released_is_kept_beside_other_profiles(tmp_path: Path) -> None:
    first = described_release(version="1.0", counter=1)
    other = described_release(name="gate", version="1.0", counter=1)
    assert keep_counted(tmp_path, first)
    assert keep_counted(tmp_path, other)
    text = (tmp_path / NAME).read_bytes()
    assert not keep_counted(tmp_path, first)
    assert (tmp_path / NAME).read_bytes() == text
    assert keep_counted(tmp_path, replace(first, version="1.1", counter=2))
    assert [item.counter for item in read_counted(tmp_path, "doorbell")] == [1, 2]
    assert read_counted(tmp_path, "gate") == (
        Counted(counter=1, version="1.0", digest=other.digest),
    )
    assert read_counted(tmp_path, "unknown") == ()


def test_a_version_is_released_once(tmp_path: Path) -> None:
    first = described_release(version="1.0", counter=1)
    keep_counted(tmp_path, first)
    text = (tmp_path / NAME).read_bytes()
    assert code_of(keep_counted, tmp_path, replace(first, made_by="another")) == "E749"
    assert (tmp_path / NAME).read_bytes() == text


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"edgedeploy-releases": 2, "profiles": {}}',
        '{"edgedeploy-releases": 1}',
        '{"edgedeploy-releases": 1, "profiles": []}',
        *(
            json.dumps({"edgedeploy-releases": 1, "profiles": {"doorbell": items}})
            for items in (
                {},
                [{"counter": 1, "version": "1.0"}],
                [{"counter": True, "version": "1.0", "digest": ""}],
                [{"counter": 0, "version": "1.0", "digest": ""}],
                [{"counter": 2**53, "version": "1.0", "digest": ""}],
                [{"counter": at, "version": f"{at}", "digest": ""} for at in (2, 1)],
                [{"counter": 1, "version": f"{at}", "digest": ""} for at in (1, 2)],
                [{"counter": at, "version": "1.0", "digest": ""} for at in (1, 2)],
            )
        ),
    ],
)
def test_a_damaged_file_is_never_begun_anew(tmp_path: Path, content: str) -> None:
    """Among them what a careless merge of two branches leaves: one counter, or version, twice."""
    (tmp_path / NAME).write_text(content)
    assert code_of(read_counted, tmp_path, "doorbell") == "E748"
    assert code_of(keep_counted, tmp_path, described_release()) == "E748"
    assert (tmp_path / NAME).read_text() == content


def _releases(folder: Path, version: str) -> None:
    with holding(folder):
        before = read_counted(folder, "doorbell")
        counter = counter_for(before, version, None)
        keep_counted(folder, described_release(version=version, counter=counter))


def test_many_at_once_get_a_counter_each(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_releases, args=(tmp_path, f"1.{at}")) for at in range(8)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [item.counter for item in read_counted(tmp_path, "doorbell")] == [*range(1, 9)]
    assert {path.name for path in tmp_path.iterdir()} == {NAME}
