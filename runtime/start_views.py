"""Starting a run from the console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from console import ids, problems
from console.access import Request, requires
from console.principals import Principal
from releases import switches
from releases.models import Agent
from releases.policies import switching
from releases.policies.switching import Engaged
from runtime import acting, forms, labels, masking, readings, runs, samples
from runtime.models import Run, Thread
from runtime.samples import Samples
from runtime.states import OnBusy

EARLIER = 6


@require_http_methods(["GET", "HEAD", "POST"])
@requires("runs.create")
def run_start(request: Request) -> HttpResponse:
    """The form; a refused one comes back with everything that was typed, and says why."""
    start = _Start.of(request)
    if request.method != "POST" or start.agent is None:
        return render(request, "runtime/run_form.html", start.context(start.blank()))
    form = forms.StartForm(request.POST, limits=start.limits, is_continued=start.thread is not None)
    if not form.is_valid():
        return render(request, "runtime/run_form.html", start.context(form), status=422)
    try:
        run = _create(request, start, form)
    except problems.Problem as problem:
        form.refuse(problem)
        return render(request, "runtime/run_form.html", start.context(form), status=problem.status)
    return redirect("runtime:run-detail", run.pk)


@require_GET
@requires("runs.create")
def people(request: Request) -> HttpResponse:
    """The suggestions for a customer that match what is typed so far."""
    slug = request.GET.get("agent", "")
    if not request.actor.may("runs.create", agent=slug):
        raise problems.Missing("There is no such agent.")
    search = request.GET.get("principal_id", "")[:80]
    return render(request, "runtime/_people.html", {"people": samples.of(slug, search).people})


def _create(request: Request, start: _Start, form: forms.StartForm) -> Run:
    assert start.agent is not None
    principal = _principal(request, start, form)
    run, _ = runs.create(
        agent=start.agent.slug,
        text=form.cleaned_data["text"],
        by=request.actor,
        principal_id=principal.id,
        principal_label=principal.label,
        attributes=principal.attributes,
        is_kept=start.thread is not None,
        thread_id=start.thread.pk if start.thread else None,
        idempotency_key=request.POST.get("form_id", "")[:60],
        budgets=form.budgets(),
        on_busy=OnBusy(form.cleaned_data["on_busy"] or OnBusy.QUEUE) if start.thread else OnBusy.REJECT,
        delay=form.delay,
    )
    return run


def _principal(request: Request, start: _Start, form: forms.StartForm) -> Principal:
    if start.thread:
        return start.thread.principal
    if form.cleaned_data["for_self"]:
        return acting.own(request.actor)
    return Principal(form.cleaned_data["principal_id"], form.cleaned_data["principal_label"])


@dataclass(frozen=True)
class _Start:
    """What the page is about: one agent, its samples, maybe a thread to go on with, maybe a switch in the way."""

    agents: list[Agent]
    agent: Agent | None
    offered: Samples
    chosen: int | None
    thread: Thread | None
    earlier: list[readings.Turn]
    paused: Engaged | None
    form_id: str

    @classmethod
    def of(cls, request: Request) -> _Start:
        agents = _agents(request)
        thread = _thread(request)
        wanted = thread.agent.slug if thread else request.POST.get("agent") or request.GET.get("agent", "")
        agent = next((one for one in agents if one.slug == wanted), agents[0] if agents and not wanted else None)
        if wanted and agent is None:
            raise problems.Missing(f"There is no agent {wanted[:60]!r} that you may start.")
        sample = request.GET.get("sample", "")
        return cls(
            agents=agents,
            agent=agent,
            offered=samples.of(agent.slug) if agent else Samples(),
            chosen=int(sample) if sample.isascii() and sample.isdecimal() and len(sample) < 4 else None,
            thread=thread,
            earlier=_earlier(request, thread) if thread else [],
            paused=switching.decide_start(switches.engaged(), agent=agent.slug) if agent else None,
            form_id=request.POST.get("form_id") or ids.public("frm", ids.new()),
        )

    @property
    def is_busy(self) -> bool:
        return any(not turn.run.is_final for turn in self.earlier)

    @property
    def limits(self) -> Any:
        return self.agent.active_release.bundle.budgets if self.agent and self.agent.active_release else None

    def blank(self) -> forms.StartForm:
        initial = {}
        if self.chosen is not None and self.chosen < len(self.offered.inputs):
            sample = self.offered.inputs[self.chosen]
            initial = {"principal_id": sample.person.id, "principal_label": sample.person.label, "text": sample.text}
        if self.thread:
            initial |= {"principal_id": self.thread.principal_id, "principal_label": self.thread.principal_label}
        return forms.StartForm(limits=self.limits, is_continued=self.thread is not None, initial=initial)

    def context(self, form: forms.StartForm) -> dict[str, Any]:
        release = self.agent.active_release if self.agent else None
        bundle = release.bundle if release else None
        return {
            "start": self,
            "form": form,
            "release": release,
            "bundle": bundle,
            "writes": [tool.name for tool in bundle.tools if tool.is_write] if bundle else [],
            "limits": [(labels.BUDGETS[name], forms.limit(name, bundle.budgets)) for name in form.BUDGETS]
            if bundle
            else [],
            "is_scripted": bundle is not None and bundle.model.provider == "scripted",
        }


def _agents(request: Request) -> list[Agent]:
    """The agents a person can give something to do. A replayed one only repeats what its recording says."""
    allowed = request.actor.agents("runs.create")
    found = Agent.objects.select_related("active_release").exclude(active_release__content__model__provider="replay")
    return list(found if allowed is None else found.filter(slug__in=allowed))


def _thread(request: Request) -> Thread | None:
    """The conversation to go on with; a foreign one is as unknown as one that never was."""
    text = request.POST.get("thread") or request.GET.get("thread", "")
    if not text:
        return None
    try:
        key = ids.parse("thr", text)
    except ValueError as wrong:
        raise problems.Missing("There is no such conversation.") from wrong
    found = Thread.objects.select_related("agent").filter(pk=key)
    thread = found.first()
    if thread is None or not request.actor.may("runs.create", agent=thread.agent.slug):
        raise problems.Missing("There is no such conversation.")
    return thread


def _earlier(request: Request, thread: Thread) -> list[readings.Turn]:
    shown = masking.masked_for(request.actor, thread.agent.slug)
    found = list(thread.runs.order_by("-created_at", "-pk")[:EARLIER])
    return [readings.turn(one, None, shown) for one in reversed(found)]
