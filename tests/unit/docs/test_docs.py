"""Docs that cannot rot: generated pages are those of the code, links lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

from docs import generate

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", ["settings.md", "messages.md", "commands.md"])
def test_the_reference_is_that_of_the_code(name):
    """`make docs` writes it again."""
    assert (generate.REFERENCE / name).read_text() == generate.pages()[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_setting_says_what_it_is_for():
    undocumented = [
        f"{service}.{name}"
        for service in generate.SERVICES
        for name, _, _, text in generate._fields(service)
        if not text
    ]

    assert undocumented == []


def test_every_admin_message_stands_in_the_how_to():
    page = (ROOT / "docs/howto/admin-messages.md").read_text()
    subjects = {e.subject.removesuffix(".*") for e in generate.topology.ENDPOINTS}
    asked = set(re.findall(r"^nats req .*?(caravan\.[a-z.]+[a-z])", page, flags=re.MULTILINE))

    assert subjects - asked == set()
