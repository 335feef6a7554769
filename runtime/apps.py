from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.apps import AppConfig

from approvals import subjects
from console import live, roles, shell
from console.roles import EVERYONE, Role

if TYPE_CHECKING:
    from releases.bundles import ToolManifest
    from runtime.providers.base import Provider
    from runtime.toolbox import Executable


def _replay() -> Provider:
    from runtime.replay import provider

    return provider.Replay()


def _recorded(manifest: ToolManifest, thread_id: UUID, call_id: str) -> Executable:
    from runtime.replay import declared

    return declared.recorded_tool(manifest, thread_id, call_id)


class RuntimeConfig(AppConfig):
    name = "runtime"

    def ready(self) -> None:
        from releases import acknowledgements, labels
        from runtime import calls, consultations, health, palette, providers, runs, toolbox, tools, workers

        starters = {Role.SUPPORT, Role.OPERATOR, Role.ADMIN}
        roles.declare("runs.read", EVERYONE, "see runs")
        roles.declare("runs.create", starters, "start runs")
        roles.declare("runs.cancel", starters, "cancel runs")
        roles.declare("runs.pause", starters, "pause and resume runs")
        roles.declare("breakers.read", EVERYONE, "see circuit breakers")
        roles.declare("breakers.set", {Role.OPERATOR, Role.ADMIN}, "hold circuit breakers open and close them")
        roles.declare("runs.personal", starters, "see personal data in runs")
        roles.declare("memory.read", starters, "see what agents remember of people")
        roles.declare("memory.erase", {Role.OPERATOR, Role.ADMIN}, "erase what agents remember of people")
        roles.declare("schedules.read", EVERYONE, "see schedules")
        roles.declare("schedules.manage", {Role.OPERATOR, Role.ADMIN}, "keep schedules")
        watchers = {Role.OPERATOR, Role.MANAGER, Role.ADMIN, Role.AUDITOR}
        roles.declare("deliveries.read", watchers, "see what callers were told")
        roles.declare("deliveries.send", {Role.OPERATOR, Role.ADMIN}, "send a message to a caller again")
        roles.declare("health.read", watchers, "see the health of the queue")
        shell.register_search(palette.find)
        live.topic("runs", lambda actor, _: actor.may("runs.read"))
        live.topic("run", runs.may_listen)
        live.topic("draft", runs.may_listen)
        live.topic("breakers", lambda actor, _: actor.may("breakers.read"))
        shell.strip("runtime:breaker-strip", "breakers", "breakers.read")
        live.topic("deliveries", lambda actor, _: actor.may("deliveries.read"))
        live.topic(health.TOPIC, lambda actor, _: actor.may("health.read"))
        shell.strip("runtime:queue-strip", health.TOPIC, "health.read")
        acknowledgements.register(workers.acknowledged)
        labels.register(tools.declared)
        providers.register("replay", _replay)
        toolbox.register("replay", _recorded)
        subjects.register(calls.SUBJECT, calls.CallHandler())
        subjects.register(calls.SETTLEMENT, calls.SettlementHandler())
        subjects.register(calls.TEXT, consultations.TextHandler())
        shell.register(
            "Observe",
            shell.NavItem(
                key="runs",
                letter="r",
                label="Runs",
                url_name="runtime:run-list",
                icon="activity",
                permission="runs.read",
            ),
        )
        shell.register(
            "Control",
            shell.NavItem(
                key="breakers",
                letter="b",
                label="Circuit breakers",
                url_name="runtime:breaker-list",
                icon="unplug",
                permission="breakers.read",
            ),
        )
        shell.register(
            "Observe",
            shell.NavItem(
                key="queue",
                letter="q",
                label="Queue health",
                url_name="runtime:queue-health",
                icon="gauge",
                permission="health.read",
                order=60,
            ),
        )
        shell.register(
            "Observe",
            shell.NavItem(
                key="deliveries",
                label="Deliveries",
                url_name="runtime:delivery-list",
                icon="send",
                permission="deliveries.read",
                order=70,
            ),
        )
        shell.register(
            "Work",
            shell.NavItem(
                key="schedules",
                letter="c",
                label="Schedules",
                url_name="runtime:schedule-list",
                icon="calendar-clock",
                permission="schedules.read",
            ),
        )
        shell.register(
            "Observe",
            shell.NavItem(
                key="memory",
                letter="y",
                label="Memory",
                url_name="runtime:memory-list",
                icon="brain",
                permission="memory.read",
            ),
        )
        shell.register(
            "Try",
            shell.NavItem(
                key="start",
                letter="p",
                label="Start a run",
                url_name="runtime:run-start",
                icon="play",
                permission="runs.create",
            ),
        )
