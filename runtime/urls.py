from django.urls import path, register_converter

from console import ids
from runtime import (
    breaker_views,
    budget_views,
    control_views,
    delivery_views,
    health_views,
    rule_views,
    schedule_views,
    start_views,
    thread_views,
    views,
)

register_converter(ids.converter("run"), "run")
register_converter(ids.converter("stp"), "stp")
register_converter(ids.converter("thr"), "thr")
register_converter(ids.converter("mem"), "mem")
register_converter(ids.converter("sch"), "sch")
register_converter(ids.converter("dlv"), "dlv")

app_name = "runtime"
urlpatterns = [
    path("runs/", views.run_list, name="run-list"),
    path("runs/rows/", views.run_rows, name="run-rows"),
    path("runs/<run:run_id>/", views.run_detail, name="run-detail"),
    path("runs/<run:run_id>/live/", views.run_steps, name="run-steps"),
    path("runs/<run:run_id>/draft/", views.run_draft, name="run-draft"),
    path("runs/<run:run_id>/steps/<stp:step_id>/", views.step_payload, name="step-payload"),
    path("runs/<run:run_id>/cancel/", control_views.run_cancel, name="run-cancel"),
    path("runs/<run:run_id>/pause/", control_views.run_pause, name="run-pause"),
    path("runs/<run:run_id>/resume/", control_views.run_resume, name="run-resume"),
    path("runs/<run:run_id>/fork/", control_views.run_fork, name="run-fork"),
    path("queue/", health_views.queue_health, name="queue-health"),
    path("queue/strip/", health_views.queue_strip, name="queue-strip"),
    path("deliveries/", delivery_views.delivery_list, name="delivery-list"),
    path("deliveries/<dlv:delivery_id>/send-again/", delivery_views.send_again, name="delivery-send-again"),
    path("breakers/", breaker_views.breaker_list, name="breaker-list"),
    path("breakers/strip/", breaker_views.breaker_strip, name="breaker-strip"),
    path("breakers/hold/", breaker_views.breaker_hold, name="breaker-hold"),
    path("breakers/close/", breaker_views.breaker_close, name="breaker-close"),
    path("threads/<thr:thread_id>/", thread_views.thread_detail, name="thread-detail"),
    path("memory/", thread_views.memory_list, name="memory-list"),
    path("memory/erase/", thread_views.memory_erase, name="memory-erase"),
    path("memory/<mem:memory_id>/delete/", thread_views.memory_delete, name="memory-delete"),
    path("schedules/", schedule_views.schedule_list, name="schedule-list"),
    path("schedules/new/", schedule_views.schedule_create, name="schedule-create"),
    path("schedules/<sch:schedule_id>/", schedule_views.schedule_detail, name="schedule-detail"),
    path("schedules/<sch:schedule_id>/enable/", schedule_views.schedule_enable, name="schedule-enable"),
    path("schedules/<sch:schedule_id>/disable/", schedule_views.schedule_disable, name="schedule-disable"),
    path("schedules/<sch:schedule_id>/run/", schedule_views.schedule_run, name="schedule-run"),
    path("releases/<rel:release_id>/rules/try/", rule_views.rule_try, name="rule-try"),
    path("releases/<rel:release_id>/rules/save/", rule_views.rule_save, name="rule-save"),
    path("releases/<rel:release_id>/rules/figures/", rule_views.rule_figures, name="rule-figures"),
    path("agents/<slug:slug>/budgets/", budget_views.agent_budgets, name="agent-budgets"),
    path("start/", start_views.run_start, name="run-start"),
    path("start/people/", start_views.people, name="start-people"),
]
