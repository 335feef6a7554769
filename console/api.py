"""The programs' interface at /api/v1: mounts each app's router by name, so that this app imports none of them."""

from __future__ import annotations

from django.conf import settings
from ninja import NinjaAPI

from console import envelope

DESCRIPTION = (
    "Start runs of agents, follow them, answer their approval requests and pull kill switches. Every request carries "
    "`Authorization: Bearer <token>`; every error is `application/problem+json`; lists are paged by cursor."
)

api = NinjaAPI(
    title="Steadyhand API",
    version="1",
    description=DESCRIPTION,
    urls_namespace="api",
    openapi_url="/openapi.json",
    docs_url=None,
    parser=envelope.StrictParser(),
)
envelope.install(api)
for prefix, router in settings.API_ROUTERS:
    api.add_router(prefix, router)
