"""Who asks, and what a refused request is answered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from console import problems, views
from console.access import Request
from console.actors import ANONYMOUS
from console.states import IllegalMove

Answer = Callable[[HttpRequest], HttpResponse]


class ActorMiddleware:
    """Sets `request.actor`, and keeps answers out of shared and on-disk caches unless the view says otherwise."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        ours = cast(Request, request)
        ours.actor = request.user.actor() if request.user.is_authenticated else ANONYMOUS
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "private, no-store")
        patch_vary_headers(response, ["HX-Request"])
        return response


class ProblemMiddleware:
    """Turns a refusal raised by a verb into a page. The API answers its own.

    An address with a zero byte is refused before any view sees it: no text of the database can hold one.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_page = not request.path_info.startswith("/api/")  # the API names the field
        if "\0" in request.path_info or (is_page and "%00" in request.META.get("QUERY_STRING", "")):
            return views.bad_request(request)
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, wrong: Exception) -> HttpResponse | None:
        if isinstance(wrong, problems.Problem):
            return views.problem(request, wrong)
        if isinstance(wrong, IllegalMove):
            return views.problem(request, problems.Conflict(str(wrong)))
        if isinstance(wrong, ObjectDoesNotExist):
            return views.problem(request, views.missing())
        return None
