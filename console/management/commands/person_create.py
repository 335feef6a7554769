from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from console import actors, people, problems
from console.roles import Role

BY = actors.system("command line")
REASON = "Made on the command line."


class Command(BaseCommand):
    help = (
        "Add a person with a role, or give another role to one who is there. The password of a new person is the only"
        " line on standard output; change it with changepassword."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True, help="what they sign in with")
        parser.add_argument("--name", default="", help="their name; needed for a new person")
        parser.add_argument("--role", required=True, choices=[role.value for role in Role])
        parser.add_argument("--agent", default="", help="slug of the one agent the role is for (default: every agent)")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        password = ""
        try:
            user = people.find(options["email"])
            if user is None:
                user, password = people.create(options["email"], options["name"], by=BY, reason=REASON)
            is_new = people.grant(user, Role(options["role"]), agent=options["agent"], by=BY, reason=REASON)
        except problems.Problem as refused:
            raise CommandError(refused.detail) from refused
        where = options["agent"] or "every agent"
        self.stderr.write(f"{user.email} is {'now' if is_new else 'already'} {options['role']} on {where}.")
        if password:
            self.stdout.write(password)
