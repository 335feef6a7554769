"""Every address of the console. Apps are mounted by name, so that this one imports none of them."""

from __future__ import annotations

from allauth.account import views as account_views
from django.urls import include, path, register_converter

from console import audit_views, ids, people_views, queue_views, views
from console.api import api

register_converter(ids.converter("tok"), "tok")
register_converter(ids.converter("usr"), "usr")
register_converter(ids.converter("rol"), "rol")

pages = [
    path("", views.home, name="home"),
    path("palette/", views.palette, name="palette"),
    path("settings/", views.appearance, name="appearance"),
    path("settings/theme/", views.theme, name="theme"),
    path("settings/tokens/", views.token_list, name="token-list"),
    path("settings/tokens/<tok:token_id>/revoke/", views.token_revoke, name="token-revoke"),
    path("settings/people/", people_views.person_list, name="person-list"),
    path("settings/people/add/", people_views.person_add, name="person-add"),
    path("settings/people/roles/<rol:grant_id>/take-away/", people_views.role_take_away, name="role-take-away"),
    path("settings/people/<usr:user_id>/", people_views.person_detail, name="person-detail"),
    path("settings/people/<usr:user_id>/roles/", people_views.role_grant, name="role-grant"),
    path("settings/people/<usr:user_id>/deactivate/", people_views.person_deactivate, name="person-deactivate"),
    path("settings/people/<usr:user_id>/reactivate/", people_views.person_reactivate, name="person-reactivate"),
    path("settings/people/<usr:user_id>/password/", people_views.person_password, name="person-password"),
    path("settings/components/", views.components, name="components"),
    path("queues/", queue_views.queue_list, name="queue-list"),
    path("queues/empty/", queue_views.queue_empty, name="queue-empty"),
    path("queues/requeue/", queue_views.queue_requeue, name="queue-requeue"),
    path("queues/delete/", queue_views.queue_delete, name="queue-delete"),
    path("queues/stop/", queue_views.queue_stop, name="queue-stop"),
    path("queues/suspend/", queue_views.queue_suspend, name="queue-suspend"),
    path("queues/resume/", queue_views.queue_resume, name="queue-resume"),
    path("audit/", audit_views.audit_list, name="audit-list"),
    path("audit/verify/", audit_views.audit_verify, name="audit-verify"),
    path("audit/<int:entry_id>/", audit_views.audit_detail, name="audit-detail"),
]

# Of allauth's pages only those that people need here: an admin invites, nobody signs up or changes their address, and
# a forgotten password is set anew with `manage.py changepassword`, because no mail leaves this console.
accounts = [
    path("login/", account_views.login, name="account_login"),
    path("logout/", account_views.logout, name="account_logout"),
    path("inactive/", account_views.account_inactive, name="account_inactive"),
    path("password/change/", account_views.password_change, name="account_change_password"),
    path("signup/", account_views.signup, name="account_signup"),
]

urlpatterns = [
    path("", include((pages, "console"))),
    path("accounts/", include(accounts)),
    path("approvals/", include("approvals.urls")),
    path("", include("releases.urls")),
    path("", include("runtime.urls")),
    path("mcp/", include("runtime.mcp.urls")),
    path("", include("telemetry.urls")),
    path("api/v1/", api.urls),
]

handler400 = "console.views.bad_request"
handler403 = "console.views.forbidden"
handler404 = "console.views.not_found"
handler500 = "console.views.failed"
