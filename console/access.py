"""Who may open a page: the request as our views see it, and the guard in front of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django_htmx.middleware import HtmxDetails

from console import problems, roles
from console.actors import Actor
from console.models import User

P = ParamSpec("P")


class Request(HttpRequest):
    """A request after our middleware."""

    actor: Actor
    user: User
    htmx: HtmxDetails


View = Callable[Concatenate[Request, P], HttpResponseBase]


def requires(permission: str) -> Callable[[View[P]], View[P]]:
    """Let only people in who hold the permission on some agent; the verb checks the object itself."""

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def guarded(request: Request, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if request.actor.kind == "anonymous":
                return sign_in_first(request)
            if not request.actor.may(permission):
                raise problems.Forbidden(refusal(permission))
            return view(request, *args, **kwargs)

        guarded.permission = permission  # type: ignore[attr-defined]  # read by the test of the role matrix
        return cast(View[P], guarded)

    return decorate


def signed_in(view: View[P]) -> View[P]:
    """Let every signed-in person in, whatever their role."""

    @wraps(view)
    def guarded(request: Request, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.actor.kind == "anonymous":
            return sign_in_first(request)
        return view(request, *args, **kwargs)

    guarded.permission = ""  # type: ignore[attr-defined]
    return cast(View[P], guarded)


def refusal(permission: str) -> str:
    """The sentence for somebody who lacks a permission, with the roles that have it."""
    who = ", ".join(sorted(role.value for role in roles.holders(permission))) or "nobody"
    return f"Your role may not {roles.label(permission)}. Roles that may: {who}. Ask an admin if you need it."


def sign_in_first(request: HttpRequest) -> HttpResponse:
    # A region that refreshes itself must not be filled with the sign-in page.
    if request.headers.get("HX-Request"):
        raise problems.Problem("Your session has ended. Sign in again to go on.", status=401, title="Signed out")
    return redirect_to_login(request.get_full_path() if request.method == "GET" else "/")
