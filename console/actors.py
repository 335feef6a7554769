"""Who does something: a person, a program with a token, or the system itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from console.principals import EVERY_END_USER, Grant

EVERY_AGENT = "*"
EVERY_SCOPE = "*"


@dataclass(frozen=True)
class Actor:
    """Rights are (permission, agent slug) pairs; agent `*` means on every agent."""

    kind: str  # user, token, system, anonymous
    id: str
    label: str
    rights: frozenset[tuple[str, str]] = frozenset()
    tool_scopes: frozenset[str] = frozenset()
    roles: tuple[str, ...] = field(default=())
    acts_for: Grant = EVERY_END_USER  # whoever may start runs does so for customers; a token only as it was granted
    itself: str = ""  # the id under which it acts for nobody else
    grants: frozenset[tuple[str, str]] = frozenset()  # (role, agent slug or *)

    def may(self, permission: str, *, agent: str | None = None) -> bool:
        """Whether the permission holds on this agent; without one, on any agent at all."""
        if self.kind == "system":
            return True
        if agent is None:
            return any(held == permission for held, _ in self.rights)
        return (permission, agent) in self.rights or (permission, EVERY_AGENT) in self.rights

    def has_role(self, role: str, *, agent: str) -> bool:
        """Whether the actor, or the person that a token belongs to, has the role on this agent."""
        return self.kind == "system" or bool({(role, agent), (role, EVERY_AGENT)} & self.grants)

    def agents(self, permission: str) -> frozenset[str] | None:
        """The agents on which the permission holds; None means all of them."""
        if self.kind == "system" or (permission, EVERY_AGENT) in self.rights:
            return None
        return frozenset(agent for held, agent in self.rights if held == permission)

    @property
    def is_person(self) -> bool:
        return self.kind == "user"


ANONYMOUS = Actor(kind="anonymous", id="", label="anonymous")


def system(part: str) -> Actor:
    """The system acting by itself, named by the part that acts (`sweeper`, `reconciler`)."""
    return Actor(kind="system", id=part, label=f"system ({part})", tool_scopes=frozenset({EVERY_SCOPE}))
