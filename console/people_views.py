"""Pages for whoever keeps people: who may sign in, with which roles, and who no longer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from console import forms, paging, people, problems
from console.access import Request, requires
from console.models import RoleGrant, User
from console.roles import Role


@require_GET
@requires("people.read")
def person_list(request: Request) -> HttpResponse:
    """Everybody, newest first."""
    return _list(request)


def _list(request: Request, *, status: int = 200, **given: Any) -> HttpResponse:
    wanted = request.GET.get("q", "").strip()[:100]
    context = {
        "page": paging.page(_found(wanted), request.GET),
        "q": wanted,
        "form": forms.PersonForm(),
        "may_manage": _keeps(request),
        "section": "people",
        **given,
    }
    return render(request, "console/person_list.html", context, status=status)


@require_POST
@requires("people.manage")
def person_add(request: Request) -> HttpResponse:
    """One more person; a refused form comes back with what was typed."""
    form = forms.PersonForm(request.POST)
    if form.is_valid():
        try:
            added, password = people.add(**form.cleaned_data, by=request.actor)
        except problems.Invalid as refused:
            form.refuse(refused)
        else:
            return _list(request, added=added, secret=password)
    return _list(request, form=form, status=422)


@require_GET
@requires("people.read")
def person_detail(request: Request, user_id: UUID) -> HttpResponse:
    return _detail(request, user_id)


def _detail(request: Request, user_id: UUID, *, status: int = 200, **given: Any) -> HttpResponse:
    person = _people().get(pk=user_id)
    context = {
        "person": person,
        "form": forms.RoleForm(),
        "is_me": str(person.pk) == request.actor.id,
        "may_manage": _keeps(request),
        "section": "people",
        **given,
    }
    return render(request, "console/person_detail.html", context, status=status)


@require_POST
@requires("people.manage")
def role_grant(request: Request, user_id: UUID) -> HttpResponse:
    person = User.objects.get(pk=user_id)
    form = forms.RoleForm(request.POST)
    if form.is_valid():
        role, agent = Role(form.cleaned_data["role"]), form.cleaned_data["agent"]
        try:
            is_new = people.grant(person, role, agent=agent, by=request.actor, reason=form.cleaned_data["reason"])
        except problems.Invalid as refused:
            form.refuse(refused)
        else:
            messages.success(request, f"{person} is {'now' if is_new else 'already'} {role} on {_place(agent)}.")
            return redirect("console:person-detail", user_id)
    return _detail(request, user_id, form=form, status=422)


@require_POST
@requires("people.manage")
def role_take_away(request: Request, grant_id: UUID) -> HttpResponse:
    held = people.take_away(grant_id, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"{held.user} is no longer {held.role} on {_place(held.agent)}.")
    return redirect("console:person-detail", held.user_id)


@require_POST
@requires("people.manage")
def person_deactivate(request: Request, user_id: UUID) -> HttpResponse:
    person = people.deactivate(user_id, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"{person} is deactivated: signed out everywhere, and every token is revoked.")
    return redirect("console:person-detail", user_id)


@require_POST
@requires("people.manage")
def person_reactivate(request: Request, user_id: UUID) -> HttpResponse:
    _, password = people.reactivate(user_id, by=request.actor, reason=request.POST.get("reason", ""))
    return _detail(request, user_id, secret=password)


@require_POST
@requires("people.manage")
def person_password(request: Request, user_id: UUID) -> HttpResponse:
    _, password = people.new_password(user_id, by=request.actor, reason=request.POST.get("reason", ""))
    return _detail(request, user_id, secret=password)


def _keeps(request: Request) -> bool:
    return request.actor.is_person and request.actor.agents("people.manage") is None


def _people() -> QuerySet[User]:
    """With their roles, and how many live tokens they have."""
    live = Q(tokens__revoked_at=None, tokens__expires_at__gt=timezone.now())
    grants = Prefetch("grants", RoleGrant.objects.order_by("role", "agent"))
    return User.objects.annotate(live_tokens=Count("tokens", filter=live)).prefetch_related(grants)


def _found(text: str) -> QuerySet[User]:
    found = _people()
    return found.filter(Q(name__icontains=text) | Q(email__icontains=text)) if text else found


def _place(agent: str) -> str:
    return agent or "every agent"
