from django.urls import path, register_converter

from approvals import views
from console import ids

register_converter(ids.converter("apr"), "apr")

app_name = "approvals"
urlpatterns = [
    path("", views.approval_list, name="list"),
    path("rows/", views.approval_rows, name="rows"),
    path("count/", views.approval_count, name="count"),
    path("next/", views.approval_next, name="next"),
    path("<apr:request_id>/", views.approval_detail, name="detail"),
    path("<apr:request_id>/state/", views.approval_state, name="state"),
    path("<apr:request_id>/decide/", views.approval_decide, name="decide"),
    path("<apr:request_id>/claim/", views.approval_claim, name="claim"),
]
