from __future__ import annotations

from django.urls import path

from telemetry import views

app_name = "telemetry"

urlpatterns = [  # runtime's addresses are mounted before ours and bring the converter of run ids
    path("overview/", views.overview_page, name="overview"),
    path("overview/export.csv", views.overview_export, name="overview-export"),
    path("runs/<run:run_id>/feedback/", views.feedback_page, name="feedback"),
]
