"""What holds for every source file: its size, the facts it cites, and what must not be in it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTES = ROOT / "docs" / "daraja"
SOURCES = sorted((ROOT / "src").rglob("*.py"))
# The last is a script's.
TEXTS = {".py", ".sql", ".js", ".html", ".css", ".svg", ".md", ".json", ".toml", ".txt", ""}
WRITTEN = [
    *sorted(
        path
        for folder in ("src", "tests", "docs", "bench", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in TEXTS and path.is_file()
    ),
    *(
        ROOT / name
        for name in ("pyproject.toml", "README.md", "Makefile", "requirements.lock", "mcp.json.example", ".gitignore")
    ),
]
MAX_LINES = 350

# Put together here, so that this file does not contain what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w./-])/(?:home|root|Users|work|mnt)/\w|[A-Z]:\\\\?Users")
PACKAGE_HOSTS = re.compile("|".join(map(re.escape, ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org"))))
INDEX_LINES = re.compile(r"^\s*--(?:extra-)?index-url|^\s*-i\s+http", re.MULTILINE)
UNWANTED = (MACHINE_PATHS, PACKAGE_HOSTS, INDEX_LINES)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def cited() -> list[tuple[str, str]]:
    """(file, citation) for each quirk and each section of the notes that a source file names."""
    found = []
    for path in SOURCES:
        text = " ".join(path.read_text().replace("#", " ").split())
        for numbers in re.findall(r"\bquirks? (\d+(?:(?:, | and |, and )\d+)*)", text):
            found += [(shown(path), f"quirk {number}") for number in re.findall(r"\d+", numbers)]
        for name, sections in re.findall(r"daraja/(\w+\.md)((?:,? (?:and )?§\d+)+)", text):
            found += [(shown(path), f"{name} §{number}") for number in re.findall(r"§(\d+)", sections)]
    return found


def facts() -> set[str]:
    """Every quirk and every numbered section that the notes have."""
    known = {f"quirk {number}" for number in re.findall(r"^(\d+)\. ", (NOTES / "quirks.md").read_text(), re.MULTILINE)}
    for note in NOTES.glob("*.md"):
        known |= {f"{note.name} §{number}" for number in re.findall(r"^## (\d+)\. ", note.read_text(), re.MULTILINE)}
    return known


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 100
    assert {".ci/run", "bench/calls.py", "src/mpesa_mcp/store/crossings.sql"} <= {shown(path) for path in WRITTEN}
    assert {path.suffix for path in WRITTEN} >= {".js", ".html", ".md"}
    assert len(cited()) > 50
    assert {f"quirk {number}" for number in range(1, 67)} <= facts()


def test_a_source_file_has_one_idea_and_at_most_350_lines() -> None:
    lines = {shown(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: number for path, number in lines.items() if number > MAX_LINES} == {}


def test_a_source_file_says_what_it_is_for() -> None:
    assert [shown(path) for path in SOURCES if not path.read_text().lstrip().startswith('"""')] == []


def test_every_fact_about_daraja_that_is_cited_is_in_the_notes() -> None:
    known = facts()
    assert [citation for citation in cited() if citation[1] not in known] == []


def test_every_note_that_is_named_exists() -> None:
    named = {(shown(path), name) for path in SOURCES for name in re.findall(r"daraja/(\w+\.md)", path.read_text())}
    assert named
    assert [pair for pair in named if not (NOTES / pair[1]).exists()] == []


def test_a_file_names_no_place_on_a_machine_and_no_host_of_packages() -> None:
    found = {
        shown(path): [match.group() for pattern in UNWANTED for match in pattern.finditer(path.read_text())]
        for path in WRITTEN
    }
    assert {path: matches for path, matches in found.items() if matches} == {}


def test_what_must_not_be_there_would_be_found() -> None:
    assert MACHINE_PATHS.search("cd /ho" + "me/someone")
    assert MACHINE_PATHS.search('Path("/ro' + 'ot/x")')
    assert not MACHINE_PATHS.search("https://a.example/home/x")
    assert PACKAGE_HOSTS.search("https://files.python" + "hosted.org/x")
    assert INDEX_LINES.search("--index" + "-url https://a.example")
