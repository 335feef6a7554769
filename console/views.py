"""Pages that belong to no domain: home, search, settings, tokens, the audit log, and what a refusal looks like."""

from __future__ import annotations

import logging
import secrets
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_POST

from console import forms, gallery, principals, problems, shell, tokens
from console.access import Request, requires, signed_in
from console.models import ApiToken
from console.roles import Role

log = logging.getLogger(__name__)

HOMES = {
    Role.ADMIN: "runtime:run-list",
    Role.OPERATOR: "runtime:run-list",
    Role.SUPPORT: "approvals:list",
    Role.MANAGER: "telemetry:overview",
    Role.AUDITOR: "console:audit-list",
}
YEAR_S = 365 * 86400


@require_GET
@signed_in
def home(request: Request) -> HttpResponse:
    for role, url_name in HOMES.items():
        if role in request.actor.roles:
            return redirect(url_name)
    raise problems.Forbidden("You have no role yet, so there is nothing to show. Ask an admin to give you one.")


@require_GET
@signed_in
def palette(request: Request) -> HttpResponse:
    text = request.GET.get("q", "")[:100]
    return render(request, "console/palette.html", {"text": text, "results": shell.find(request.actor, text)})


# Settings


@signed_in
def appearance(request: Request) -> HttpResponse:
    if request.method == "POST":
        form = forms.AppearanceForm(request.POST)
        if not form.is_valid():
            raise problems.Invalid("One of the choices is not offered here. Reload the page and choose again.")
        messages.success(request, "Saved for this browser.")
        return _remember(redirect("console:appearance"), form.cleaned_data)
    chosen = forms.AppearanceForm(initial=vars(shell.Appearance.of(request)))
    return render(request, "console/appearance.html", {"form": chosen, "section": "appearance"})


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Open to everybody: the sign-in page has a theme too."""
    wanted = request.POST.get("theme", "")
    chosen = wanted if wanted in shell.APPEARANCE["theme"] else "system"
    return _remember(redirect(_way_back(request, request.POST.get("next", ""))), {"theme": chosen})


def _remember(response: HttpResponse, chosen: dict[str, str]) -> HttpResponse:
    for name, value in chosen.items():
        if value:
            response.set_cookie(
                name, value, max_age=YEAR_S, samesite="Lax", httponly=True, secure=settings.SESSION_COOKIE_SECURE
            )
    return response


def _way_back(request: HttpRequest, url: str) -> str:
    is_ours = url_has_allowed_host_and_scheme(
        url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return url if url and is_ours else "/"


@signed_in
def token_list(request: Request) -> HttpResponse:
    form = forms.TokenForm(request.POST or None, actor=request.actor)
    secret = ""
    if request.method == "POST" and form.is_valid():
        try:
            _, secret = tokens.create(
                by=request.actor,
                name=form.cleaned_data["name"],
                scopes=form.cleaned_data["scopes"],
                expires_in=form.expires_in,
                tool_scopes=form.tools,
                acts_for=form.grant,
            )
        except problems.Invalid as refused:
            form.refuse(refused)
        else:
            form = forms.TokenForm(actor=request.actor)
    mine = ApiToken.objects.filter(owner=request.user).order_by("-created_at")[:100]
    rows = [(token, _life(token), principals.sentence(token.grant)) for token in mine]
    context = {"form": form, "secret": secret, "rows": rows, "section": "tokens"}
    return render(request, "console/token_list.html", context)


def _life(token: ApiToken) -> str:
    if token.revoked_at:
        return "revoked"
    return "expired" if token.expires_at <= timezone.now() else "live"


@require_POST
@signed_in
def token_revoke(request: Request, token_id: UUID) -> HttpResponse:
    token = tokens.revoke(token_id, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"{token.name} is revoked. Calls with it are refused from now on.")
    return redirect("console:token-list")


@require_GET
@requires("components.read")
def components(request: Request) -> HttpResponse:
    return render(request, "console/components.html", gallery.context())


# Refusals


def problem(request: HttpRequest, wrong: problems.Problem) -> HttpResponse:
    """A refusal as a page, as the part htmx puts into #problem, or as JSON below /api/."""
    reference = secrets.token_hex(4)
    log.info("Refused %s %s with %s, reference %s: %s", request.method, request.path, wrong.status, reference, wrong)
    if request.path.startswith("/api/"):
        body = {"type": "about:blank", "title": wrong.title, "status": wrong.status, "detail": wrong.detail}
        return JsonResponse(body, status=wrong.status, content_type="application/problem+json")
    is_inside = shell.actor_of(request).kind != "anonymous" and wrong.status < 500
    context: dict[str, Any] = {
        "layout": "base.html" if is_inside else "entrance.html",
        "problem": {"status": wrong.status, "title": wrong.title, "detail": wrong.detail, **wrong.extra},
        "reference": reference,
        "back": _referrer(request),
    }
    if wrong.status >= 500:
        context["messages"] = ()  # they may lie in the session, and the database may be what failed
    response = render(request, "problem.html", context, status=wrong.status)
    if "retry_after" in wrong.extra:
        response["Retry-After"] = str(wrong.extra["retry_after"])
    return response


def _referrer(request: HttpRequest) -> str:
    try:
        parts, host = urlsplit(request.headers.get("Referer", "")), request.get_host()
    except (ValueError, DisallowedHost):  # an address that cannot be read, or a host that is not ours
        return ""
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return path if parts.netloc == host and path != request.get_full_path() else ""


def missing() -> problems.Missing:
    """The same words for what does not exist and for what this person may not see."""
    return problems.Missing("There is nothing at this address, or it is not open to you.")


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return problem(request, problems.Problem("The request could not be understood."))


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return problem(request, problems.Forbidden(str(exception or "") or "Your role does not allow this."))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return problem(request, missing())


def failed(request: HttpRequest) -> HttpResponse:
    detail = "Something went wrong on our side. Nothing was changed by this request unless the page before said so."
    return problem(request, problems.Problem(detail, status=500, title="This did not work"))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    detail = (
        "The form was too old or came from another site, so nothing was changed. Go back, reload and send it again."
    )
    return problem(request, problems.Forbidden(detail))
