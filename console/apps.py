from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "console"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_out
        from django.core.signals import got_request_exception

        from console import accounts, alarms, roles, shell
        from console.roles import Role

        roles.declare("audit.read", {Role.OPERATOR, Role.MANAGER, Role.ADMIN, Role.AUDITOR}, "read the audit log")
        roles.declare("audit.verify", {Role.ADMIN, Role.AUDITOR}, "verify the audit chain")
        roles.declare("tokens.revoke", {Role.ADMIN}, "revoke tokens of others")
        roles.declare("people.read", {Role.ADMIN, Role.AUDITOR}, "see people and their roles")
        roles.declare("people.manage", {Role.ADMIN}, "add people, give and take roles")
        roles.declare("components.read", {Role.ADMIN}, "see the component gallery")
        roles.declare("queues.read", {Role.ADMIN}, "see the job queues")
        roles.declare("queues.manage", {Role.ADMIN}, "control the job queues")
        got_request_exception.connect(alarms.look_at_request, dispatch_uid="console.alarms")
        user_logged_out.connect(accounts.close_sockets, dispatch_uid="console.close_sockets")
        shell.register(
            "Control",
            shell.NavItem(
                key="audit",
                label="Audit log",
                url_name="console:audit-list",
                icon="list",
                permission="audit.read",
                letter="u",
                order=90,
            ),
        )
        shell.register(
            "Control",
            shell.NavItem(
                key="queues",
                label="Job queues",
                url_name="console:queue-list",
                icon="server",
                permission="queues.read",
                order=95,
            ),
        )
