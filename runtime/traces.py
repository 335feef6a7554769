"""The finished values of a trace page: rows of the timeline, what is selected. Payloads are not read here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q

from console import ids, words
from runtime import drafts, labels
from runtime.labels import Badge
from runtime.masking import Shown
from runtime.models import Run, Step
from runtime.policies import folding, timeline
from runtime.policies.timeline import Axis, Span
from runtime.states import Hold, RunStatus, StepKind, StepStatus, StepVerdict

PAGE = 200
LATER_ERRORS = 20
MOST_SPANS = 1000
END_MARK = 0.8  # percent of the width: the line at which a person decided
HELD = {
    Hold.TIMER: "Waiting for its time",
    Hold.THREAD: "Waiting for the run before it",
    Hold.SLOT: "Waiting for a free slot",
}
SWITCHED = Q(rule="kill_switch") | Q(error="kill_switch")
ERRORS = Q(status__in=[StepStatus.FAILED, StepStatus.UNKNOWN]) & ~Q(error=folding.BROKEN_OFF)
FILTERS = {
    "model": ("Model", Q(kind=StepKind.MODEL)),
    "tool": ("Tools", Q(kind=StepKind.TOOL)),
    "guardrail": ("Guardrails", Q(kind=StepKind.GUARDRAIL)),
    "person": ("People", Q(kind=StepKind.APPROVAL)),
    "context": ("Context", Q(kind__in=[StepKind.INPUT, StepKind.RETRIEVAL, StepKind.ANSWER])),
    "refused": ("Refused", Q(verdict=StepVerdict.REFUSED) | Q(status=StepStatus.REFUSED)),
    "errors": ("Errors", ERRORS),
}
TABS = ("timeline", "conversation", "context", "data", "events", "deliveries", "versions")
UNDER_A_MODEL = {StepKind.TOOL, StepKind.RETRIEVAL}


@dataclass(frozen=True)
class Look:
    """What of the run the address asks for."""

    tab: str = "timeline"
    show: str = ""
    first: int = 0
    is_true_scale: bool = False
    step: UUID | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Look:
        """Read it from a query string; what makes no sense counts as not given."""
        first = query.get("from", "")
        try:
            step = ids.parse("stp", query.get("step", ""))
        except ValueError:
            step = None
        return cls(
            tab=query["tab"] if query.get("tab") in TABS else "timeline",
            show=query["show"] if query.get("show") in FILTERS else "",
            first=int(first) if first.isascii() and first.isdecimal() and len(first) < 10 else 0,
            is_true_scale=query.get("scale") == "true",
            step=step,
        )


@dataclass(frozen=True)
class Rect:
    """A bar as SVG wants it. Lengths are texts, so that no language writes them with a comma."""

    x: str
    width: str
    css: str = ""
    y: int = 4
    height: int = 10


def percent(share: float) -> str:
    return f"{share:.2f}".rstrip("0").rstrip(".") + "%"


def _rect(x: float, width: float, css: str = "") -> Rect:
    return Rect(percent(x), percent(width), css)


@dataclass(frozen=True)
class Row:
    """One line of the timeline. Without a `step` it is the run itself or something that has not happened yet."""

    name: str
    icon: str
    tone: str
    css: str
    depth: int = 1
    what: str = ""
    badges: Sequence[Badge] = ()
    time: str = ""
    cost: str = ""
    rects: Sequence[Rect] = ()
    step: Step | None = None
    is_selected: bool = False
    is_planned: bool = False
    text: str = ""
    grows: bool = False  # its text is being written

    @property
    def tells(self) -> bool:
        """Whether its phrase stands beside its name: a badge says enough, but not of what a guardrail has found."""
        return not self.badges or (self.step is not None and self.step.kind == StepKind.GUARDRAIL)


@dataclass(frozen=True)
class Line:
    """A line of the time axis, and its label where there is room for one."""

    x: str
    label: str
    anchor: str


@dataclass
class Timeline:
    rows: list[Row]
    chosen: UUID | None
    axis: Axis
    ticks: list[Line]
    is_shortened: bool
    could_shorten: bool
    next_first: int | None = None
    is_first_page: bool = True
    later_errors: list[Step] = field(default_factory=list)

    @property
    def axis_label(self) -> str:
        short = [piece for piece in self.axis.pieces if piece.is_short]
        waits = " and ".join(timeline.label(piece.span.length_ms) for piece in short)
        text = f"Time axis from 0 s to {timeline.label(self.axis.total_ms)}"
        return f"{text}; shortened: {waits} without work" if short else text


def build(
    run: Run, look: Look, counted: Mapping[str, Any], now: datetime, shown: Shown, *, asked: Step | None = None
) -> Timeline:
    """The page of the timeline that `look` asks for. `asked` is the step with which a waiting run asks a person."""
    wanted = run.steps.filter(FILTERS[look.show][1]) if look.show else run.steps.all()
    found = list(wanted.filter(seq__gte=look.first).order_by("seq")[: PAGE + 1])
    steps, more = found[:PAGE], found[PAGE:]
    clock = _Clock.over(run, steps, now, is_first=not look.first, is_last=not more)
    pauses = timeline.pauses(_work(run, steps, clock, look), clock.total_ms)
    axis = timeline.axis(clock.total_ms, () if look.is_true_scale else pauses)
    chosen = _chosen(run, steps, look)

    rows = [_run_row(run, axis, clock)] if not look.first and not look.show else []
    rows += [_row(run, step, axis, clock, shown, is_selected=step.pk == chosen) for step in steps]
    if not more and not look.show:
        rows += _ahead(run, steps, axis, clock, shown, asked)
    is_paged = bool(more or look.first)
    return Timeline(
        rows=rows,
        chosen=chosen,
        axis=axis,
        ticks=[Line(percent(tick.x), tick.label, tick.anchor) for tick in timeline.ticks(axis)],
        is_shortened=axis.has_short,
        could_shorten=bool(pauses),
        next_first=more[0].seq if more else None,
        is_first_page=not look.first,
        later_errors=_errors_elsewhere(run, steps) if is_paged and counted["errors"] and look.show != "errors" else [],
    )


@dataclass(frozen=True)
class _Clock:
    """Turns moments into milliseconds since the axis begins."""

    zero: datetime
    end: datetime

    @classmethod
    def over(cls, run: Run, steps: Sequence[Step], now: datetime, *, is_first: bool, is_last: bool) -> _Clock:
        zero = run.started_at or run.created_at
        if steps and (not is_first or steps[0].started_at < zero):
            zero = steps[0].started_at
        end = run.finished_at or now
        if steps and not is_last:
            end = max(step.finished_at or end for step in steps)
        return cls(zero, max(end, zero))

    @property
    def total_ms(self) -> float:
        return self.ms(self.end)

    def ms(self, moment: datetime | None) -> float:
        return ((moment or self.end) - self.zero) / timedelta(milliseconds=1)


def _work(run: Run, steps: Sequence[Step], clock: _Clock, look: Look) -> list[Span]:
    """When something worked. A filter hides rows, not the work of the steps that it hides."""
    if not look.show:
        return [_span(step, clock) for step in steps if step.kind != StepKind.APPROVAL]
    hidden = run.steps.exclude(kind=StepKind.APPROVAL).filter(started_at__lte=clock.end, seq__gte=look.first)
    times = list(hidden.order_by("seq").values_list("started_at", "finished_at")[: MOST_SPANS + 1])
    if len(times) > MOST_SPANS:  # not all known, so nothing can be called a pause
        return [Span(0, clock.total_ms)]
    return [Span(clock.ms(started), clock.ms(finished)) for started, finished in times]


def _span(step: Step, clock: _Clock) -> Span:
    return Span(clock.ms(step.started_at), clock.ms(step.finished_at))


def selected(run: Run, found: Timeline) -> Step | None:
    """The step that is opened beside the timeline, with its payload: the one payload this page reads."""
    if found.chosen is None:
        return None
    return run.steps.select_related("payload").filter(pk=found.chosen).first()


def touched(run: Run, shown: Shown) -> list[str]:
    """What kill switches did to this run, in the words kept with the steps."""
    summaries = run.steps.filter(SWITCHED).order_by("seq").values_list("summary", flat=True)[:50]
    said = dict.fromkeys(text.partition("Kill switch: ")[2] or text for text in summaries)
    return [shown(text) for text in said][:3]


def _chosen(run: Run, steps: Sequence[Step], look: Look) -> UUID | None:
    """The step asked for; otherwise what a reader came for: the open question, the refusal, the error, or the end."""
    if look.step or not steps:
        return look.step
    looks: dict[RunStatus, Callable[[Step], bool]] = {
        RunStatus.WAITING: lambda step: step.verdict == StepVerdict.ASKED,
        RunStatus.PAUSED: lambda step: step.verdict == StepVerdict.ASKED,
        RunStatus.FAILED: lambda step: step.status in (StepStatus.FAILED, StepStatus.UNKNOWN),
        RunStatus.REFUSED: lambda step: step.verdict == StepVerdict.REFUSED,
    }
    wanted = looks.get(RunStatus(run.status))
    found = [step for step in steps if wanted(step)] if wanted else []
    return (found or list(steps))[-1].pk


def _run_row(run: Run, axis: Axis, clock: _Clock) -> Row:
    parts = axis.parts(0, clock.total_ms)
    return Row(
        name=f"{run.agent.name} run",
        icon="activity",
        tone="faint",
        css="k-run",
        depth=0,
        time=words.duration(clock.end - clock.zero),
        cost=words.money(run.cost_usd),
        rects=[_rect(part.x, part.width, "hatch" if part.is_short else "") for part in parts],
    )


def _row(run: Run, step: Step, axis: Axis, clock: _Clock, shown: Shown, *, is_selected: bool) -> Row:
    kind = labels.KINDS[StepKind(step.kind)]
    css, tone = labels.colours(step)
    start, end = clock.ms(step.started_at), clock.ms(step.finished_at)
    return Row(
        name=labels.name(step),
        icon=kind.icon,
        tone=tone,
        css=css,
        depth=2 if step.kind in UNDER_A_MODEL and step.call_id else 1,
        what=shown(_phrase(step)),
        badges=[*([labels.COPIED] if is_copied(run, step) else []), *labels.badges(step, run.status)],
        time=words.duration(end - start) if end - start >= 1 else "",
        cost=words.money(step.cost_usd) if step.cost_usd else "",
        rects=_rects(step, axis, start, end),
        step=step,
        is_selected=is_selected,
    )


def is_copied(run: Run, step: Step) -> bool:
    """Whether a fork took the step over from the run it retries: no claim of its own has written it."""
    return run.forked_at_step is not None and step.fence == 0


def _phrase(step: Step) -> str:
    """The column is narrow: what the model proposes is told by an arrow."""
    if step.kind == StepKind.MODEL and step.summary.startswith("proposes "):
        return f"→ {step.summary.removeprefix('proposes ')}"
    return step.summary


def _rects(step: Step, axis: Axis, start: float, end: float) -> list[Rect]:
    if step.kind != StepKind.APPROVAL:
        bar = axis.bar(start, end)
        return [_rect(bar.x, bar.width, "open" if step.status == StepStatus.STARTED else "")]
    rects = [_rect(part.x, part.width, "hatch") for part in axis.parts(start, end)]
    return [*rects, Rect(percent(max(0.0, axis.x(end) - END_MARK)), percent(END_MARK), "end", 1, 16)]


def _ahead(run: Run, steps: Sequence[Step], axis: Axis, clock: _Clock, shown: Shown, asked: Step | None) -> list[Row]:
    """What is going on right now, and what is known to come."""
    if run.status == RunStatus.RUNNING and not any(step.status == StepStatus.STARTED for step in steps):
        text = shown(drafts.read(run.pk) or "")
        bar = axis.bar(max((clock.ms(step.finished_at) for step in steps), default=0), clock.total_ms)
        name = "Writing…" if text else "Working…"
        rect = _rect(bar.x, bar.width, "open")
        now = Row(name, "sparkle", "t-acc", "k-model", what="now", rects=[rect], is_planned=True, text=text, grows=True)
        return [now]
    if run.status == RunStatus.QUEUED:
        name = HELD[Hold(run.held_for)] if run.held_for else "Waiting for a worker"
        return [Row(name, "clock", "faint", "k-know", is_planned=True)]
    held = [Row("Paused", "circle-pause", "t-warn", "k-warn", is_planned=True)]
    return [*(held if run.status == RunStatus.PAUSED else []), *(_planned(asked) if asked else [])]


def _planned(asked: Step) -> list[Row]:
    """The call that a person is asked about, and the model's next word."""
    given = asked.payload.input
    if given.get("text_of") == "output":
        return [Row("Answer to the customer", "sparkle", "faint", "", what="Not given yet", is_planned=True)]
    if "text_of" in given:
        return [Row("What the agent makes of it", "sparkle", "faint", "", what="Not started", is_planned=True)]
    tool = str(given.get("tool", ""))
    names = [(tool or "The call", "square-terminal", 2), ("Answer to the customer", "sparkle", 1)]
    return [
        Row(name, icon, "faint", "", depth=depth, what="Not started", is_planned=True) for name, icon, depth in names
    ]


def asked(run: Run) -> Step | None:
    """The step with which a waiting run asks a person, with its payload."""
    found = run.steps.filter(kind=StepKind.APPROVAL, status=StepStatus.STARTED).select_related("payload")
    return found.order_by("-seq").first()


def _errors_elsewhere(run: Run, steps: Sequence[Step]) -> list[Step]:
    outside = run.steps.filter(ERRORS)
    if steps:
        outside = outside.filter(Q(seq__lt=steps[0].seq) | Q(seq__gt=steps[-1].seq))
    return list(outside.order_by("seq")[:LATER_ERRORS])
