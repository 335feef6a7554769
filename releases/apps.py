from django.apps import AppConfig

from console import live, roles, shell
from console.roles import EVERYONE, Role


class ReleasesConfig(AppConfig):
    name = "releases"

    def ready(self) -> None:
        from console import people
        from releases import palette
        from releases.models import Agent

        operators = {Role.OPERATOR, Role.ADMIN}
        roles.declare("releases.read", EVERYONE, "see agents and releases")
        roles.declare("releases.create", operators, "create releases")
        roles.declare("releases.activate", operators, "change the active release")
        roles.declare("labels.review", {Role.MANAGER, *operators}, "review changes of tools' labels")
        roles.declare("switches.read", EVERYONE, "see kill switches")
        roles.declare("switches.engage", operators, "engage kill switches")
        roles.declare("switches.lift", operators, "lift kill switches")
        people.declare_agents(lambda: Agent.objects.order_by("name").values_list("slug", "name"))
        shell.register_search(palette.find)
        live.topic("releases", lambda actor, _: actor.may("releases.read"))
        live.topic("switches", lambda actor, _: actor.may("switches.read"))
        shell.register(
            "Ship",
            shell.NavItem(
                key="releases",
                letter="l",
                label="Agents and releases",
                url_name="releases:agent-list",
                icon="layers",
                permission="releases.read",
            ),
        )
        shell.register(
            "Control",
            shell.NavItem(
                key="switches",
                letter="s",
                label="Kill switches",
                url_name="releases:switch-list",
                icon="power",
                permission="switches.read",
                count_url_name="releases:switch-count",
                count_topic="switches",
            ),
        )
        shell.strip("releases:switch-strip", "switches", "switches.read")
