from django.apps import AppConfig

from console import live, roles, shell
from console.roles import EVERYONE, Role


class ApprovalsConfig(AppConfig):
    name = "approvals"

    def ready(self) -> None:
        from approvals import inbox, palette

        roles.declare("approvals.read", EVERYONE, "see approval requests")
        roles.declare("approvals.decide", {Role.SUPPORT, Role.OPERATOR, Role.ADMIN}, "decide approval requests")
        shell.register_search(palette.find)
        live.topic("approvals", lambda actor, _: actor.may("approvals.read"))
        live.topic("approval", inbox.may_listen)
        shell.register(
            "Work",
            shell.NavItem(
                key="approvals",
                letter="a",
                label="Approvals",
                url_name="approvals:list",
                icon="inbox",
                permission="approvals.read",
                count_url_name="approvals:count",
                count_topic="approvals",
            ),
        )
