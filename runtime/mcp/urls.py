from django.urls import path

from runtime.mcp import views

app_name = "mcp"
urlpatterns = [
    path("", views.server_list, name="server-list"),
    path("new/", views.server_create, name="server-create"),
    path("<slug:name>/", views.server_detail, name="server-detail"),
    path("<slug:name>/change/", views.server_change, name="server-change"),
    path("<slug:name>/discover/", views.server_discover, name="server-discover"),
    path("<slug:name>/disable/", views.server_disable, name="server-disable"),
    path("<slug:name>/enable/", views.server_enable, name="server-enable"),
    path("<slug:name>/tools/<slug:tool>/", views.tool_detail, name="tool-detail"),
    path("<slug:name>/tools/<slug:tool>/review/", views.tool_review, name="tool-review"),
]
