"""The programs' interface at /api/v1: mounts each app's router by name, so that this app imports none of them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from ninja import NinjaAPI
from ninja.operation import Operation

from console import bearer, envelope, reference

DESCRIPTION = (
    "Start runs of agents, follow them, answer their approval requests and pull kill switches. Every request carries "
    "the header “Authorization: Bearer <token>”. Every error is application/problem+json. Lists are paged by cursor."
)
PROBLEM: dict[str, Any] = {
    "description": "Nothing was changed; detail says why and what to do",
    "content": {
        envelope.PROBLEM: {
            "schema": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "errors": {"type": "object", "additionalProperties": {"type": "string"}},
                    "request_id": {"type": "string"},
                },
            }
        }
    },
}


class Interface(NinjaAPI):
    def get_openapi_operation_id(self, operation: Operation) -> str:
        """Called once for each operation of the schema: also where its scope and its errors are written down."""
        scopes = [auth.permission for auth in operation.auth_callbacks if isinstance(auth, bearer.Token)]
        responses = {**(operation.openapi_extra or {}).get("responses", {}), "default": PROBLEM}
        operation.openapi_extra = {"responses": responses, "x-scope": ", ".join(scopes)}
        return operation.view_func.__name__


api = Interface(
    title="Steadyhand API",
    version="1",
    description=DESCRIPTION,
    urls_namespace="api",
    openapi_url="/openapi.json",
    docs_url="/docs",
    docs=reference.Reference(),
    parser=envelope.StrictParser(),
)
envelope.install(api)
for prefix, router in settings.API_ROUTERS:
    api.add_router(prefix, router)
