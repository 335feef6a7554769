"""The part of a request that says for whom a program acts, and of an answer that says for whom a run works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from ninja import Schema
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from console import envelope, principals, problems
from console.actors import Actor
from console.principals import Principal, PrincipalKind

Text = Annotated[str, Field(min_length=1, max_length=principals.LONGEST_VALUE)]


class PrincipalIn(envelope.Body):
    kind: PrincipalKind = Field(PrincipalKind.END_USER, description="end_user, or service: the token acts for itself")
    id: str = Field("", max_length=principals.LONGEST_ID, description="Left out for a service")
    label: str = Field("", max_length=200)
    attributes: dict[str, Text] = Field(
        {},
        max_length=principals.MOST_ATTRIBUTES,
        description="What is known of them, such as tier or country; only what the token may assert",
    )


class PrincipalOut(Schema):
    kind: PrincipalKind
    id: str
    label: str
    attributes: dict[str, str]


class OnBehalf(envelope.Body):
    """A claim: it holds as far as the token was granted."""

    principal: PrincipalIn | None = Field(None, description="For whom the work is done; instead of user_id")
    user_id: str | None = Field(
        None,
        min_length=1,
        max_length=principals.LONGEST_ID,
        validate_default=True,
        description="The end user the work is done for; short for principal",
    )
    user_label: str = Field("", max_length=200)

    @field_validator("user_id")
    @classmethod
    def _is_one(cls, user_id: str | None, info: ValidationInfo) -> str | None:
        if (user_id is None) == (info.data.get("principal") is None) and "principal" in info.data:
            raise PydanticCustomError("one_of_two", "Say for whom: give user_id or principal, one of the two.")
        return user_id

    def on_behalf_of(self, by: Actor) -> Principal:
        """Who is meant, not yet checked.

        Raises:
            problems.Invalid: the id is of another kind.
        """
        wanted = self.principal
        if wanted is None:
            return Principal(self.user_id or "", self.user_label)
        key = wanted.id.strip() or (by.itself if wanted.kind == PrincipalKind.SERVICE else "")
        if key and principals.kind_of(key) != wanted.kind:
            sentence = f"{key[:60]!r} is no id of the kind {wanted.kind}."
            raise problems.Invalid(sentence, errors={"principal": sentence})
        return Principal(key, wanted.label or self.user_label, wanted.attributes)


def shown(principal: Principal, mask: Callable[[Any], Any]) -> dict[str, Any]:
    """The fields of PrincipalOut."""
    return {
        "kind": principal.kind,
        "id": mask(principal.id),
        "label": mask(principal.label),
        "attributes": {name: mask(value) for name, value in principal.attributes.items()},
    }
