"""The pages are complete, of a size to be read, and those that are generated are up to date."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgedeploy.cli.main import VERBS
from edgedeploy.errors import EXIT_PRECEDENCE, ExitCode
from edgedeploy.errors.codes import catalogue
from edgedeploy.errors.reference import AREAS, diagnostics_markdown

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
GENERATED = {"diagnostics.md", "profile.md", "tensorrt-options.md"}
PAGES = sorted(DOCS.glob("*.md"))
MOST_LINES = 220
MAKE_DIAGNOSTICS = (
    "from pathlib import Path; from edgedeploy.errors.reference import diagnostics_markdown; "
    "Path('docs/diagnostics.md').write_text(diagnostics_markdown(), encoding='utf-8')"
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_committed_codes_are_the_generated_ones() -> None:
    committed = text_of("docs/diagnostics.md")
    assert committed == diagnostics_markdown(), f'run: python -c "{MAKE_DIAGNOSTICS}"'


def test_every_code_has_its_row_and_area() -> None:
    rows = re.findall(r"^\| `(E\d+)` \|", diagnostics_markdown(), re.M)
    assert rows == list(catalogue())
    assert {code[1] for code in catalogue()} <= set(AREAS)


def test_a_row_stays_one_row() -> None:
    """Four marks and no more: no explanation breaks its table."""
    rows = [line for line in diagnostics_markdown().splitlines() if line.startswith("| `E")]
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 4, row


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_told(verb: str) -> None:
    pages = [text_of("README.md"), *(path.read_text(encoding="utf-8") for path in PAGES)]
    assert any(f"edgedeploy {verb}" in page for page in pages)


def test_the_readme_links_every_page() -> None:
    linked = set(re.findall(r"\]\(docs/([a-z-]+\.md)", text_of("README.md")))
    assert linked == {path.name for path in PAGES}


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_a_page_can_be_read_at_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    if path.name not in GENERATED:
        assert len(text.splitlines()) <= MOST_LINES


def test_no_page_holds_a_merge_that_was_not_finished() -> None:
    for path in (*ROOT.glob("*.md"), *PAGES, *ROOT.glob("examples/*/*.md")):
        lines = path.read_text(encoding="utf-8").splitlines()
        left = [line for line in lines if re.match(r"(<{7}|={7}|>{7})( |$)", line)]
        assert not left, f"{path}: {left}"


@pytest.mark.parametrize("name", ["README.md", "docs/faults.md"])
def test_the_exit_codes_are_the_real_ones(name: str) -> None:
    rows = re.findall(r"^\| (\d+) \| ", text_of(name), re.M)
    assert [int(row) for row in rows] == sorted(int(code) for code in ExitCode)


def test_the_order_of_exit_codes_is_the_real_one() -> None:
    told = re.search(r"`(70 > [\d >]+)`", text_of("docs/faults.md"))
    assert told is not None
    assert told[1] == " > ".join(str(int(code)) for code in EXIT_PRECEDENCE)


def faults(page: str) -> list[list[str]]:
    """Return the rows of the fault tables of a page as cells."""
    lines = re.findall(r"^\| F\d{2,3} \|.*$", text_of(f"docs/{page}"), re.M)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_faults_are_numbered_and_shown() -> None:
    """The ids ascend on each page, none is used twice, and a row's proof exists."""
    names = ("faults.md", "device-faults.md", "release-faults.md", "application-faults.md")
    pages = [faults(page) for page in names]
    numbers = [[int(row[0].removeprefix("F")) for row in rows] for rows in pages]
    assert all(ids == sorted(ids) and len(ids) >= 5 for ids in numbers)
    assert len(set().union(*numbers)) == sum(len(ids) for ids in numbers)
    for row in (row for rows in pages for row in rows):
        assert len(row) == 5, row
        proofs = re.findall(r"`([\w/.-]+\.py)::(\w+)`", row[4])
        assert proofs, row
        for file, test in proofs:
            assert f"def {test}(" in text_of(f"tests/{file}"), row


def test_codes_named_in_the_pages_exist() -> None:
    for path in [ROOT / "README.md", *PAGES]:
        named = set(re.findall(r"\bE\d{3}\b", path.read_text(encoding="utf-8")))
        assert named <= set(catalogue()), path


def test_python_blocks_parse_and_name_what_exists() -> None:
    """What a page imports from edgedeploy can be imported; nothing is run."""
    imports = []
    for path in [ROOT / "README.md", *PAGES]:
        for block in re.findall(r"^```python\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S):
            compile(block, str(path), "exec")
            imports += re.findall(r"^from edgedeploy[\w.]* import .*$", block, re.M)
    assert imports
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(imports)], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr


def test_the_picture_is_small() -> None:
    assert (DOCS / "images" / "report.png").stat().st_size < 200 << 10
