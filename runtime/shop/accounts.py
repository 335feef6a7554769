"""Accounts to try the roles with. One random password per installation, kept in a file only its owner can read."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.db.models.functions import Lower

from console import actors, audit
from console.embedded import files
from console.models import RoleGrant, User
from console.roles import Role

FILE = "demo_accounts.txt"
ACCOUNTS = (
    ("mara@example.com", "Mara Okafor", Role.SUPPORT, "starts runs and decides approvals"),
    ("tomas@example.com", "Tomás Rey", Role.OPERATOR, "also releases and kill switches"),
    ("ines@example.com", "Ines Duarte", Role.MANAGER, "reads figures"),
    ("ada@example.com", "Ada Nowak", Role.ADMIN, "everything"),
    ("samir@example.com", "Samir Haddad", Role.AUDITOR, "reads everything, changes nothing"),
)
OWNER = "tomas@example.com"  # of the support agent


@dataclass(frozen=True)
class _Account:
    user: User

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "user", str(self.user.pk), f"{self.user.name} <{self.user.email}>", ""


def kept_password(folder: Path) -> str:
    """The password of this installation, as its file says; empty when there is none."""
    path = folder / FILE
    found = re.search(r"^Password: (\S+)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return found[1] if found else ""


def new_password() -> str:
    return secrets.token_urlsafe(12)


def keep(folder: Path, password: str) -> Path:
    """Write down how to sign in, readable by the owner of the file alone."""
    widest = max(len(email) for email, *_ in ACCOUNTS)
    path = folder / FILE
    lines = [f"Demo accounts, kept in {path} for you alone", f"Password: {password}"]
    lines += [f"  {email:<{widest}}  {role.value:<9}  {can}" for email, _, role, can in ACCOUNTS]
    files.write(path, "\n".join(lines) + "\n")
    return path


@transaction.atomic
def establish(password: str, *, resets: bool) -> int:
    """Make the accounts that are missing; with `resets` the others get the password too. Returns how many are new."""
    known = User.objects.annotate(key=Lower("email")).filter(key__in=[email for email, *_ in ACCOUNTS]).count()
    if known == len(ACCOUNTS) and not resets:
        return 0
    encoded, made = make_password(password), 0  # hashed once: it is meant to be slow
    for email, name, role, _ in ACCOUNTS:
        user = User.objects.filter(email__iexact=email).first()
        if user is None:
            user = User.objects.create(email=email, password=encoded, name=name)
            RoleGrant.objects.create(user=user, role=role)
            audit.record(
                actors.system("demo data"),
                "user.create",
                _Account(user),
                reason="An account to try the demo with.",
                changes={"role": [None, role.value]},
            )
            made += 1
        elif resets:
            user.password = encoded
            user.save(update_fields=["password"])
    return made
