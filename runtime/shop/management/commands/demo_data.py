from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.timezone import now

from console import environment, roles, tokens
from console.models import User
from console.roles import Role
from runtime.shop import accounts, documents, releasing, seed
from runtime.shop.models import Order, Ticket

TOKEN_DAYS = 30


class Command(BaseCommand):
    help = "Fill the demo shop, make the demo accounts and the support agent. Running it again changes nothing."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--password", help="password of the demo accounts; without it a random one is made once")
        parser.add_argument("--api-token", action="store_true", help="also make the operator an API token")

    def handle(self, *args: Any, **options: Any) -> None:
        self._shop()
        self._accounts(environment.load().steadyhand_data_dir, options["password"] or "")
        agent = releasing.establish()
        active = agent.active_release.version if agent.active_release else "none"
        self.stdout.write(f"agent {agent.slug}: release {active}")
        if options["api_token"]:
            self._token()

    def _shop(self) -> None:
        new = documents.store()
        today = now().date()
        if not Order.objects.exists():
            shop = seed.build(today)
            seed.store(shop)
            self.stdout.write(f"shop: {len(shop.customers):,} customers, {len(shop.orders):,} orders, {new} policies")
            return
        if days := seed.move_to(today):
            self.stdout.write(f"shop: dates moved along by {days} day{'s' if days > 1 else ''}")
        if not Ticket.objects.exists():  # a shop from before there were any
            shop = seed.Shop()
            seed.add_tickets(shop, today)
            seed.store(shop)

    def _accounts(self, folder: Path, wanted: str) -> None:
        kept = accounts.kept_password(folder)
        password = wanted or kept or accounts.new_password()
        made = accounts.establish(password, resets=bool(wanted))
        if made or wanted:
            path = accounts.keep(folder, password)
            self.stdout.write(path.read_text())
        elif not kept:
            self.stdout.write(
                f"The demo accounts exist, but {folder / accounts.FILE} is gone and their password is stored nowhere "
                "else. Set a new one: manage.py demo_data --password <new password>"
            )

    def _token(self) -> None:
        email = next(email for email, _, role, _ in accounts.ACCOUNTS if role == Role.OPERATOR)
        owner = User.objects.get(email=email).actor()
        held = sorted({permission for permission, _ in owner.rights} & roles.permissions_of(Role.OPERATOR))
        _, text = tokens.create(
            by=owner,
            name="Demo",
            scopes=held,
            expires_in=timedelta(days=TOKEN_DAYS),
            reason="Asked for with demo_data --api-token.",
        )
        self.stdout.write(f"API token of {email}, {TOKEN_DAYS} days, shown only now: {text}")
