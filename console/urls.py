"""Every address of the console. Apps are mounted by name, so that this one imports none of them."""

from __future__ import annotations

from django.urls import include, path, register_converter
from django.utils.module_loading import import_string

from console import audit_views, ids, queue_views, views

register_converter(ids.converter("tok"), "tok")

pages = [
    path("", views.home, name="home"),
    path("palette/", views.palette, name="palette"),
    path("settings/", views.appearance, name="appearance"),
    path("settings/theme/", views.theme, name="theme"),
    path("settings/tokens/", views.token_list, name="token-list"),
    path("settings/tokens/<tok:token_id>/revoke/", views.token_revoke, name="token-revoke"),
    path("settings/components/", views.components, name="components"),
    path("queues/", queue_views.queue_list, name="queue-list"),
    path("audit/", audit_views.audit_list, name="audit-list"),
    path("audit/verify/", audit_views.audit_verify, name="audit-verify"),
    path("audit/<int:entry_id>/", audit_views.audit_detail, name="audit-detail"),
]

urlpatterns = [
    path("", include((pages, "console"))),
    path("accounts/", include("allauth.account.urls")),
]


# While the apps are being written, those without urls are left out.
def _mount(prefix: str, module: str) -> None:
    try:
        urlpatterns.append(path(prefix, include(module)))
    except (ImportError, RuntimeError):
        pass


_mount("approvals/", "approvals.urls")
_mount("", "releases.urls")
_mount("", "runtime.urls")
_mount("", "telemetry.urls")
try:
    urlpatterns.append(path("api/v1/", import_string("console.api.api").urls))
except ImportError:
    pass
handler400 = "console.views.bad_request"
handler403 = "console.views.forbidden"
handler404 = "console.views.not_found"
handler500 = "console.views.failed"
