"""The pages: links and anchors lead somewhere, and every page is in the index."""

import re
from pathlib import Path

import pytest

from tests.architecture import WIDTH

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FIRST_SCREEN = 45


def text_of(page):
    """A page without its code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)


def anchors(page):
    """Names of a page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page):
    for link in LINK.findall(text_of(page)):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            yield link, (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = [
        link
        for link, target, anchor in links(page)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]
    assert broken == []


def test_pages_that_code_names_are_there():
    named = {
        (str(path.relative_to(ROOT)), page)
        for room in ("semflow", "pipelines", "tune", "infra", "tests")
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".html", ".md", ".yaml") and path != Path(__file__)
        for page in re.findall(r"docs/[\w/-]+\.(?:md|png)", path.read_text())
    }
    assert {one for one in named if not (ROOT / one[1]).exists()} == set()


def test_every_page_is_in_the_index():
    index = DOCS / "README.md"
    there = {target for _, target, _ in links(index)}
    assert {page for page in DOCS.rglob("*.md") if page != index} <= there


def test_no_folder_is_wide():
    for folder in [DOCS, *(path for path in DOCS.rglob("*") if path.is_dir())]:
        assert sum(path.is_file() for path in folder.iterdir()) <= WIDTH, folder


def test_the_readme_s_first_screen_has_what_a_newcomer_needs():
    lines = (ROOT / "README.md").read_text().splitlines()
    first = "\n".join(lines[:FIRST_SCREEN])
    for what in ("make demo", "make test", "![", "| what | figure | measured on |"):
        assert what in first
    assert max(map(len, lines)) <= 100
