from django.urls import path, register_converter

from console import ids
from releases import label_views, switch_views, views

register_converter(ids.converter("rel"), "rel")
register_converter(ids.converter("ksw"), "ksw")

app_name = "releases"
urlpatterns = [
    path("agents/", views.agent_list, name="agent-list"),
    path("agents/<slug:slug>/", views.agent_detail, name="agent-detail"),
    path("agents/<slug:slug>/releases/new/", views.release_create, name="release-create"),
    path("releases/compare/", views.release_compare, name="release-compare"),
    path("releases/<rel:release_id>/", views.release_detail, name="release-detail"),
    path("releases/<rel:release_id>/bundle.json", views.release_bundle, name="release-bundle"),
    path("releases/<rel:release_id>/activate/", views.release_activate, name="release-activate"),
    path("releases/<rel:release_id>/labels/review/", label_views.label_review, name="label-review"),
    path("switches/", switch_views.switch_list, name="switch-list"),
    path("switches/engage/", switch_views.switch_engage, name="switch-engage"),
    path("switches/count/", switch_views.switch_count, name="switch-count"),
    path("switches/strip/", switch_views.switch_strip, name="switch-strip"),
    path("switches/<ksw:switch_id>/lift/", switch_views.switch_lift, name="switch-lift"),
    path("switches/<ksw:switch_id>/explain/", switch_views.switch_explain, name="switch-explain"),
]
