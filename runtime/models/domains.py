"""Columns whose values PostgreSQL checks by their type.

A CHECK of a table is parsed and compiled anew for each statement that writes to the table: those of runs, steps and
events, 30 of them, were a fifth of what the server spent on a durable operation. A domain says the same of its values
and is compiled once per connection. The migrations create the domains; one word more is an ALTER DOMAIN there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:  # which knows what the columns hold from what these are based on
    from django.db.models import CharField as WordField
    from django.db.models import PositiveBigIntegerField as BigCountField
    from django.db.models import PositiveIntegerField as CountField
    from django.db.models import PositiveSmallIntegerField as SmallCountField
else:

    class _InDomain:
        domain = ""

        def db_type(self, connection: BaseDatabaseWrapper) -> str:
            return self.domain

        def db_check(self, connection: BaseDatabaseWrapper) -> None:
            """Nothing beside the domain."""

    class CountField(_InDomain, models.PositiveIntegerField):
        domain = "runtime_count"

    class SmallCountField(_InDomain, models.PositiveSmallIntegerField):
        domain = "runtime_small_count"

    class BigCountField(_InDomain, models.PositiveBigIntegerField):
        domain = "runtime_big_count"

    class WordField(_InDomain, models.CharField):
        """One word of those that the domain of this column knows."""

        def db_type(self, connection: BaseDatabaseWrapper) -> str:
            return f"{self.model._meta.db_table}_{self.column}"  # noqa: SLF001 (Django means it to be used)


__all__ = ["BigCountField", "CountField", "SmallCountField", "WordField"]
