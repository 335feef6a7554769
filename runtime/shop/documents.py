"""Policy documents as files: `policy_texts/<slug>@<version>.md`, read into the search index.

A version of the index means every document in its newest wording up to that version. A wording never changes, so
neither does a version of the index: what is new gets a newer version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction

from runtime.shop.models import PolicyDocument, PolicySection

FOLDER = Path(__file__).parent / "policy_texts"
SECTION = re.compile(
    r"^## (?P<heading>[^\n]+) \{#(?P<anchor>[a-z-]+)\}\n"
    r"(?:Also: (?P<asked_as>[^\n]+)\n)?"
    r"(?P<text>.+?)\s*(?=^## |\Z)",
    re.M | re.S,
)


@dataclass(frozen=True)
class Section:
    anchor: str
    heading: str
    text: str
    asked_as: str


@dataclass(frozen=True)
class Document:
    slug: str
    version: str
    title: str
    sections: tuple[Section, ...]


def read(folder: Path = FOLDER) -> Iterator[Document]:
    """Every document of the folder.

    Raises:
        ValueError: a file is not named or not written as described above.
    """
    for path in sorted(folder.glob("*.md")):
        slug, _, version = path.stem.partition("@")
        title, _, body = path.read_text(encoding="utf-8").partition("\n")
        sections = tuple(
            Section(found["anchor"], found["heading"], " ".join(found["text"].split()), found["asked_as"] or "")
            for found in SECTION.finditer(body)
        )
        if not re.fullmatch(r"\d{4}\.\d{2}", version) or not title.startswith("# ") or not sections:
            raise ValueError(f"{path.name} is not <slug>@<year>.<month>.md with a title and `## Heading {{#anchor}}`.")
        yield Document(slug, version, title.removeprefix("# ").strip(), sections)


@transaction.atomic
def store() -> int:
    """Bring the files into the database; what is there already stays as it is. Returns how many were new."""
    stored = set(PolicyDocument.objects.values_list("slug", "version"))
    new = [document for document in read() if (document.slug, document.version) not in stored]
    for document in new:
        row = PolicyDocument(slug=document.slug, version=document.version, title=document.title)
        row.save()
        PolicySection.objects.bulk_create(
            PolicySection(
                document=row,
                anchor=section.anchor,
                position=position,
                heading=section.heading,
                text=section.text,
                asked_as=section.asked_as,
            )
            for position, section in enumerate(document.sections)
        )
    return len(new)
