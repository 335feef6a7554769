from __future__ import annotations

from django.urls import path

from telemetry import tool_views, views

app_name = "telemetry"

urlpatterns = [  # runtime's addresses are mounted before ours and bring the converter of run ids
    path("overview/", views.overview_page, name="overview"),
    path("overview/export.csv", views.overview_export, name="overview-export"),
    path("tools/", tool_views.tool_list, name="tool-list"),
    path("tools/<str:name>/", tool_views.tool_detail, name="tool-detail"),
    path("runs/<run:run_id>/feedback/", views.feedback_page, name="feedback"),
]
