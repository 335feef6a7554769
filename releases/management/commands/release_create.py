from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from console import problems
from console.models import User
from releases import forms, releases
from releases.models import Agent


class Command(BaseCommand):
    help = (
        "Store a release from a JSON file, and register the agent when it is new. The release answers no runs until"
        " it is made active, here with --activate or in the console. Prints the release's id."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("agent", help="slug of the agent")
        parser.add_argument("file", type=Path, help="the bundle as JSON")
        parser.add_argument("--email", required=True, help="who does it; their rights count and their name is kept")
        parser.add_argument("--name", default="", help="name of a new agent")
        parser.add_argument("--note", default="", help="what is new, for those who read the history")
        parser.add_argument("--activate", metavar="REASON", default="", help="also let it answer all new runs")

    def handle(self, *args: Any, **options: Any) -> None:
        person = User.objects.filter(email__iexact=options["email"]).first()
        if person is None:
            raise CommandError(f"Nobody has the address {options['email']}.")
        try:
            self._store(person, **options)
        except problems.Problem as refused:
            wrong = (f"{place}: {sentence}" for place, sentence in refused.extra.get("errors", {}).items())
            raise CommandError(" ".join([refused.detail, *wrong])) from refused

    @transaction.atomic
    def _store(self, person: User, **options: Any) -> None:
        slug, by = options["agent"], person.actor()
        content = forms.content(_read(options["file"]))
        agent = Agent.objects.filter(slug=slug).first()
        if agent is None:
            if not by.may("releases.create", agent=slug):
                raise problems.Forbidden(f"{person} may not create releases of {slug}.")
            name = options["name"] or slug.replace("-", " ").capitalize()
            agent = releases.register_agent(slug, name, by=by, owner=person)
        release = releases.create(agent, content, by=by, note=options["note"])
        if options["activate"]:
            releases.activate(release.pk, by=by, reason=options["activate"])
        self.stderr.write(f"{release}, {len(release.bundle.tools)} tools, digest {release.digest[:16]}")
        self.stdout.write(release.public_id)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as wrong:
        raise CommandError(f"{file} cannot be read: {wrong}") from wrong
