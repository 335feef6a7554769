"""People, their roles and tokens, and the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from console import ids, roles
from console.actors import EVERY_AGENT, EVERY_SCOPE, Actor
from console.principals import ANY, Grant, PrincipalKind, narrowed


def every_scope() -> list[str]:
    return [EVERY_SCOPE]


def every_end_user() -> list[str]:
    return [ANY]


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        """For Django's own `createsuperuser`: a person with the role admin on every agent."""
        user = self.create_user(email, password, **fields)
        RoleGrant.objects.create(user=user, role=roles.Role.ADMIN)
        return user


class User(AbstractBaseUser):
    """A person who signs in. Rights come from role grants, never from the person's row."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    email = models.EmailField()
    name = models.CharField(max_length=120)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)
    tool_scopes = ArrayField(models.CharField(max_length=80), default=every_scope, blank=True)
    loaded_grants: Sequence[RoleGrant] | None = None  # from whoever has read them together with the account

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(Lower("email"), name="user_email_unique")]

    def __str__(self) -> str:
        return self.name or self.email

    def get_full_name(self) -> str:
        return self.name

    @property
    def is_staff(self) -> bool:
        """Read by the queue dashboard of django-rq."""
        return self.is_superuser

    @property
    def is_superuser(self) -> bool:
        return any(grant.role == roles.Role.ADMIN and not grant.agent for grant in self._held())

    def _held(self) -> Iterable[RoleGrant]:
        return self.grants.all() if self.loaded_grants is None else self.loaded_grants

    def has_perm(self, perm: str, obj: object = None) -> bool:
        return self.is_active and self.is_superuser

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and self.is_superuser

    @property
    def initials(self) -> str:
        words = (self.name or self.email).split()
        return "".join(word[0] for word in words[:2]).upper()

    def actor(self) -> Actor:
        """The person with the rights of all their grants; nobody who is inactive has any."""
        grants = list(self._held()) if self.is_active else []
        return Actor(
            kind="user",
            id=str(self.pk),
            label=str(self),
            rights=frozenset(
                (permission, grant.agent or EVERY_AGENT)
                for grant in grants
                for permission in roles.permissions_of(grant.role)
            ),
            tool_scopes=frozenset(self.tool_scopes if grants else []),
            roles=tuple(sorted({grant.role for grant in grants})),
            itself=f"{PrincipalKind.STAFF}:{ids.public('usr', self.pk)}",
            grants=frozenset((str(grant.role), grant.agent or EVERY_AGENT) for grant in grants),
        )


class RoleGrant(models.Model):
    """A role on one agent, or on all of them when `agent` is empty."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="grants")
    role = models.CharField(max_length=20, choices=[(role.value, role.value.title()) for role in roles.Role])
    agent = models.SlugField(blank=True, default="", help_text="Slug of an agent; empty for every agent")
    granted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "role", "agent"], name="role_grant_unique"),
            models.CheckConstraint(
                condition=models.Q(role__in=[role.value for role in roles.Role]), name="role_grant_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} on {self.agent or 'every agent'}"


class ApiToken(models.Model):
    """A program's key. Only a hash is stored; the token itself is shown once, when it is made."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.CharField(max_length=64)
    scopes = ArrayField(models.CharField(max_length=80), default=list)
    tool_scopes = ArrayField(models.CharField(max_length=80), default=every_scope, blank=True)
    end_users = ArrayField(
        models.CharField(max_length=120),
        default=every_end_user,
        db_default=[ANY],
        blank=True,
        help_text="Patterns of the ids of end users it may act for",
    )
    attributes = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        blank=True,
        help_text="What it may assert of them: {name: value}, * for any value",
    )
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "token", ids.public("tok", self.pk), f"Token {self.name} (sth_{self.prefix}_…)", "/settings/tokens/"

    def actor(self) -> Actor:
        """What the token may do: its scopes, and never more than its owner may."""
        owner = self.owner.actor()
        return Actor(
            kind="token",
            id=str(self.pk),
            label=f"{self.name} ({self.owner})",
            rights=frozenset(right for right in owner.rights if right[0] in self.scopes),
            tool_scopes=frozenset(narrowed(self.tool_scopes, owner.tool_scopes)),
            roles=owner.roles,
            acts_for=self.grant,
            itself=f"{PrincipalKind.SERVICE}:{ids.public('tok', self.pk)}",
            grants=owner.grants,
        )

    @property
    def grant(self) -> Grant:
        return Grant(tuple(self.end_users), dict(self.attributes))


# Nouns of audited actions that people call something else.
ACTED_ON = {"approval": "request", "switch": "kill switch", "token": "API token", "user": "account"}


class AuditEntry(models.Model):
    """One change, who made it and why. Append-only: a trigger refuses UPDATE and DELETE.

    Each entry carries an HMAC over its content and the entry before it, so that a changed, removed or
    inserted row breaks the chain at a place that `audit.verify` names.
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=20)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_label = models.CharField(max_length=300)
    action = models.CharField(max_length=80)
    object_kind = models.CharField(max_length=40)
    object_id = models.CharField(max_length=80)
    object_label = models.CharField(max_length=300)
    object_url = models.CharField(max_length=300, blank=True)
    reason = models.TextField(blank=True)
    changes = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["object_kind", "object_id", "-id"], name="audit_object"),
            models.Index(fields=["actor_id", "-id"], name="audit_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.actor_label}: {self.action} {self.object_label}"

    @property
    def in_words(self) -> str:
        """The action for readers: `release.activate` is "Activate release"."""
        noun, _, verb = self.action.partition(".")
        told = f"{verb.replace('_', ' ')} {ACTED_ON.get(noun, noun)}".strip()
        return told[:1].upper() + told[1:]
