from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from console import principals, problems, roles, tokens
from console.actors import EVERY_SCOPE
from console.models import User


class Command(BaseCommand):
    help = (
        "Make an API token for a person and print it, once. It can do what its scopes say and never more than the"
        " person may. The token is the only line on standard output."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True, help="whose token it is")
        parser.add_argument(
            "--scope", action="append", default=[], help="a permission, repeated for several; left out: all they hold"
        )
        parser.add_argument(
            "--tool-scope", action="append", default=[], help="what its runs may do; left out: whatever they may"
        )
        parser.add_argument(
            "--end-user",
            action="append",
            help="ids it may act for, with * for any characters, repeated for several; left out: any end user",
        )
        parser.add_argument("--only-itself", action="store_true", help="it acts for nobody but itself, as a service")
        parser.add_argument(
            "--attribute", action="append", default=[], help="what it may say of them: tier, or tenant=acme for always"
        )
        parser.add_argument("--name", default="command line", help="what the token is for (default: %(default)s)")
        parser.add_argument("--days", type=int, default=30, help="life of the token (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = User.objects.filter(email__iexact=options["email"]).first()
        if owner is None:
            raise CommandError(f"Nobody has the address {options['email']}.")
        actor = owner.actor()
        held = sorted({permission for permission, _ in actor.rights} & roles.declared().keys())
        patterns = [] if options["only_itself"] else options["end_user"] or [principals.ANY]
        try:
            grant = principals.read_grant(patterns, options["attribute"])
        except principals.BadClaim as wrong:
            raise CommandError(str(wrong)) from wrong
        try:
            token, text = tokens.create(
                by=actor,
                name=options["name"],
                scopes=options["scope"] or held,
                expires_in=timedelta(days=options["days"]),
                tool_scopes=options["tool_scope"] or [EVERY_SCOPE],
                acts_for=grant,
                reason="Made on the command line.",
            )
        except problems.Problem as refused:
            raise CommandError(refused.detail) from refused
        self.stderr.write(
            f"{token.name} of {owner.email}, until {token.expires_at:%Y-%m-%d}: {', '.join(token.scopes)}."
            f" {principals.sentence(token.grant)}"
        )
        self.stdout.write(text)
