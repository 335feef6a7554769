from django.apps import AppConfig

from console import live, roles, shell
from console.roles import EVERYONE


class TelemetryConfig(AppConfig):
    name = "telemetry"

    def ready(self) -> None:
        roles.declare("metrics.read", EVERYONE, "see the overview")
        roles.declare("feedback.give", EVERYONE, "give feedback on runs")
        live.topic("metrics", lambda actor, _: actor.may("metrics.read"))
        shell.register(
            "Observe",
            shell.NavItem(
                key="overview",
                letter="m",
                label="Overview",
                url_name="telemetry:overview",
                icon="chart-column",
                permission="metrics.read",
            ),
        )
        shell.register(
            "Ship",
            shell.NavItem(
                key="tools",
                letter="o",
                label="Tools",
                url_name="telemetry:tool-list",
                icon="wrench",
                permission="releases.read",
                order=60,
            ),
        )
