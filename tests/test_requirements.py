"""docs/requirements.md names, for every row, the tests that name it, and no others."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

PROJECT = Path(__file__).parent.parent
TABLE = PROJECT / "docs" / "requirements.md"


def named_by_tests() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in (PROJECT / "tests").rglob("*.py"):
        for names in re.findall(r"covers: ([A-Z0-9, ]+)", path.read_text()):
            for name in re.findall(r"[A-Z]\d+", names):
                found[name].add(str(path.relative_to(PROJECT)))
    return found


def named_by_the_table() -> dict[str, set[str]]:
    rows = re.findall(r"^\| ([A-Z]\d+) \|.*\| (.*) \|$", TABLE.read_text(), re.MULTILINE)
    return {name: set(re.findall(r"`(tests/[^`]+)`", shown)) for name, shown in rows}


def test_the_table_is_true() -> None:
    tests = named_by_tests()
    assert {name: paths for name, paths in named_by_the_table().items() if paths} == tests


def test_each_promise_of_security_names_its_tests() -> None:
    text = (PROJECT / "SECURITY.md").read_text()
    promised = text[: text.index("## What is not promised")]
    promises = re.split(r"^- ", promised, flags=re.MULTILINE)[1:]
    assert len(promises) >= 10
    for promise in promises:
        named = re.findall(r"`(tests/[^`]+)`", promise)
        assert named, f"no test is named by: {promise}"
        for path in re.findall(r"`(tests/[^`]+)`", text):
            assert (PROJECT / path).is_file() or (PROJECT / path).is_dir(), path


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(PROJECT)}: {target}"


def test_nothing_names_a_machine_or_a_registry() -> None:
    """The repository must work anywhere, and say nothing of where it was made."""
    hosts = "|".join(["pypi" + r"\.org", "python" + "hosted", "registry" + r"\.npm", "deb" + r"\.debian"])
    for path in PROJECT.rglob("*"):
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".txt", ""} and ".git" not in path.parts:
            if any(part.startswith(".") and part != ".ci" for part in path.relative_to(PROJECT).parts):
                continue
            assert not re.search(hosts, path.read_text(errors="replace")), path
