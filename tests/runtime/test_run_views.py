from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from console.models import AuditEntry
from console.roles import Role
from releases.states import Scope, SwitchEffect
from runtime import samples
from runtime.models import Draft, Run, Step
from runtime.samples import Person, Sample, Samples
from runtime.states import RunStatus, StepKind, StepStatus
from tests.builders import a_release, a_run, a_step, a_switch, a_thread, a_user, an_agent, an_approval

pytestmark = pytest.mark.django_db

MOST_QUERIES = 12


def signed_in(role: Role | str = Role.OPERATOR, *, agent: str = "") -> Client:
    client = Client()
    client.force_login(a_user(role, agent=agent, name="Mara Okafor"))
    return client


def text_of(response) -> str:
    return response.content.decode()


# Who sees what


def test_nobody_sees_runs_without_signing_in():
    run = a_run()

    for url in ("/runs/", run.get_absolute_url(), "/start/"):
        response = Client().get(url)
        assert response.status_code == 302
        assert response["Location"].startswith("/accounts/login/")


def test_a_grant_on_one_agent_shows_that_agents_runs_only():
    mine = a_run(agent=an_agent("mine"), title="Mine to see")
    foreign = a_run(agent=an_agent("foreign"), title="Not mine to see")
    step = a_step(foreign, input={}, output={"content": "secret"})
    client = signed_in(Role.OPERATOR, agent="mine")

    page = text_of(client.get("/runs/"))

    assert mine.title in page
    assert foreign.title not in page
    assert client.get(mine.get_absolute_url()).status_code == 200
    for part in ("", "live/", f"steps/{step.public_id}/"):
        assert client.get(f"{foreign.get_absolute_url()}{part}").status_code == 404


def test_a_foreign_run_is_as_unknown_as_one_that_never_was():
    foreign = a_run(agent=an_agent("foreign"))
    client = signed_in(Role.OPERATOR, agent="mine")
    address = foreign.get_absolute_url()

    known, unknown = client.get(address), client.get(address[:-3] + "zz/")

    assert (known.status_code, unknown.status_code) == (404, 404)
    assert without_reference(known) == without_reference(unknown)


def without_reference(response) -> str:
    return re.sub(
        r'reference <span class="mono">[^<]*|csrfmiddlewaretoken" value="[^"]*|value="/runs/[^"]*',
        "",
        text_of(response),
    )


def test_a_step_is_found_under_its_own_run_only():
    run, other = a_run(), a_run()
    step = a_step(other, input={}, output={})

    assert signed_in().get(f"{run.get_absolute_url()}steps/{step.public_id}/").status_code == 404


@pytest.mark.parametrize("role", [Role.MANAGER, Role.AUDITOR])
def test_those_who_look_on_see_personal_data_masked(role):
    run = a_run(
        title="Reach me at ana@example.org",
        input_text="Ship to 742 Evergreen Terrace, Springfield 62704. Call +351 912 345 678.",
        answer="We wrote to ana@example.org.",
        principal_label="Ana Lima",
    )
    step = a_step(
        run, summary="ana@example.org", input={"arguments": {}}, output={"result": {"email": "ana@example.org"}}
    )  # fmt: skip
    address = run.get_absolute_url()
    pages = ["/runs/", address, f"{address}?tab=conversation", f"{address}?tab=data", f"{address}?tab=events"]
    pages += [f"{address}steps/{step.public_id}/?part={part}" for part in ("summary", "output", "raw")]

    pages.append("/palette/?q=reach+me")

    seen = "".join(text_of(signed_in(role).get(page)) for page in pages)
    helped = "".join(text_of(signed_in(Role.SUPPORT).get(page)) for page in pages)

    for personal in ("ana@example.org", "Evergreen Terrace", "912 345 678"):
        assert personal not in seen
        assert personal in helped
    assert "Ana Lima" in seen
    assert "1 personal field hidden by your role" in seen


# The list


def test_the_list_takes_the_same_few_queries_however_many_runs_there_are():
    a_switch()
    client = signed_in()
    a_run()
    few = queries(client, "/runs/")
    for number in range(60):
        a_run(agent=an_agent("shop"), title=f"Run {number}", created_at=now() - timedelta(minutes=number))

    assert queries(client, "/runs/") == few <= MOST_QUERIES
    assert queries(client, "/runs/?q=refund&status=failed&tool=issue_refund") <= MOST_QUERIES + 1
    assert queries(client, "/runs/rows/") <= MOST_QUERIES


def queries(client: Client, url: str) -> int:
    client.get(url)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def test_the_list_keeps_its_filters_from_page_to_page():
    for number in range(51):
        a_run(RunStatus.REFUSED, title=f"Run {number}", created_at=now() - timedelta(minutes=number))
    client = signed_in()

    first = text_of(client.get("/runs/?status=refused&since=day"))
    older = re.search(r'href="(\?[^"]*before=[^"]*)"', first)
    second = text_of(client.get("/runs/" + older[1].replace("&amp;", "&")))

    assert "status=refused" in older[1]
    assert "since=day" in older[1]
    assert "Run 50" not in first
    assert "Run 50" in second
    assert "Newer" in second


def test_new_runs_are_announced_above_an_unchanged_list():
    shown = a_run(title="Shown already")
    client = signed_in()
    address = re.search(r'hx-get="(/runs/rows/[^"]*)"', text_of(client.get("/runs/")))[1].replace("&amp;", "&")
    a_run(title="Came later")
    Run.objects.filter(pk=shown.pk).update(status=RunStatus.FAILED)

    rows = text_of(client.get(address))

    assert "1 new run, show" in rows
    assert "Came later" not in rows
    assert "Failed" in rows


def test_a_list_without_runs_says_how_to_get_one_and_a_filtered_one_how_to_widen():
    client = signed_in()

    assert "No runs yet" in text_of(client.get("/runs/"))
    assert "No run fits these filters" in text_of(client.get("/runs/?status=failed"))
    assert "Clear filters" in text_of(client.get("/runs/?status=failed"))


def test_a_wrong_page_mark_is_a_problem_and_not_a_crash():
    assert signed_in().get("/runs/?before=nonsense").status_code == 422


# The trace


def a_waiting_run() -> Run:
    run = a_run(RunStatus.WAITING, waiting_since=now())
    request = an_approval(run)
    a_step(
        run, StepKind.APPROVAL, "Approval", status=StepStatus.STARTED,
        input={"request": request.public_id, "tool": "issue_refund"}, output={},
    )  # fmt: skip
    return run


def test_a_waiting_run_leads_to_its_request():
    run = a_waiting_run()

    page = text_of(signed_in().get(run.get_absolute_url()))

    assert "Review request" in page
    assert re.search(r'href="/approvals/apr_[a-z0-9]{26}/"', page)


def test_a_run_that_goes_on_listens_and_a_finished_one_does_not():
    going, done = a_waiting_run(), a_run()
    client = signed_in()

    assert f"live:run:{going.public_id} " in text_of(client.get(going.get_absolute_url()))
    assert "live:run:" not in text_of(client.get(done.get_absolute_url()))
    assert "live:run:" not in text_of(client.get(f"{done.get_absolute_url()}live/"))


@pytest.mark.parametrize("tab", ["", "conversation", "data", "context", "events", "versions"])
def test_each_tab_needs_few_queries_whatever_the_number_of_steps(tab):
    a_switch()
    client = signed_in()
    small, large = a_waiting_run(), a_waiting_run()
    for run, count in ((small, 3), (large, 300)):
        Step.objects.bulk_create(
            Step(
                run=run, seq=10 + number, done_seq=10 + number, kind=StepKind.TOOL, name="lookup_order",
                status=StepStatus.DONE, started_at=run.created_at, finished_at=run.created_at,
            )
            for number in range(count)
        )  # fmt: skip

    few = queries(client, f"{small.get_absolute_url()}?tab={tab}")
    many = queries(client, f"{large.get_absolute_url()}?tab={tab}")

    assert max(few, many) <= MOST_QUERIES


def test_text_of_strangers_is_shown_and_never_executed():
    evil = '<img src=x onerror=alert(1)>"\u202etxt'
    run = a_run(RunStatus.FAILED, title=evil, input_text=evil, answer=evil, principal_label=evil, cause_detail=evil)
    step = a_step(
        run, StepKind.MODEL, evil[:20], summary=evil, input={"messages": [{"role": "user", "text": evil}]},
        output={"text": evil, "calls": [{"name": evil, "arguments": {evil: evil}}]},
    )  # fmt: skip
    a_step(
        run, StepKind.RETRIEVAL, "search", input={"arguments": {"q": evil}},
        output={"result": {"passages": [{"citation": evil, "title": evil, "text": evil}]}},
    )  # fmt: skip
    address, client = run.get_absolute_url(), signed_in()
    pages = ["/runs/", *(f"{address}?tab={tab}" for tab in ("", "conversation", "data", "context", "events"))]
    pages += [f"{address}steps/{step.public_id}/?part={part}" for part in ("summary", "input", "output", "raw")]

    for page in pages:
        html = text_of(client.get(page))
        assert "<img" not in html
        assert "\u202e" not in html.partition("</title>")[2]


def test_a_kill_switch_that_touched_the_run_is_named_at_its_head():
    run = a_run(RunStatus.REFUSED, cause="kill_switch")
    a_step(
        run, StepKind.GUARDRAIL, "kill_switch", status=StepStatus.REFUSED, verdict="refused", rule="kill_switch",
        summary="issue_refund: Kill switch: issue_refund is off. Refunds went out twice.",
    )  # fmt: skip

    page = text_of(signed_in().get(run.get_absolute_url()))

    assert "A kill switch touched this run." in page
    assert "issue_refund is off. Refunds went out twice." in page


def test_drawings_keep_their_points_for_readers_of_other_languages():
    run = a_run()
    a_step(run, started_at=run.created_at + timedelta(milliseconds=700))

    page = text_of(signed_in().get(run.get_absolute_url(), headers={"accept-language": "de"}))

    assert not re.search(r'(x|width)="\d+,\d', page)


# Stopping


def test_stopping_a_run_needs_a_reason_and_shows_who_and_why():
    run = a_run(RunStatus.QUEUED)
    client = signed_in()

    refused = client.post(f"{run.get_absolute_url()}cancel/", {"reason": " "})
    stopped = client.post(f"{run.get_absolute_url()}cancel/", {"reason": "Wrong customer"})
    page = text_of(client.get(run.get_absolute_url()))

    assert refused.status_code == 422
    assert stopped.status_code == 302
    assert "Wrong customer" in page
    assert "Mara Okafor" in page
    assert "Stop run" not in page
    assert AuditEntry.objects.get(action="run.cancel").reason == "Wrong customer"


def test_an_auditor_cannot_stop_a_run_and_is_not_offered_to():
    run = a_run(RunStatus.QUEUED)
    client = signed_in(Role.AUDITOR)

    assert "Stop run" not in text_of(client.get(run.get_absolute_url()))
    assert client.post(f"{run.get_absolute_url()}cancel/", {"reason": "x"}).status_code == 403
    assert Run.objects.get().status == RunStatus.QUEUED


def test_stopping_is_a_post():
    run = a_run(RunStatus.QUEUED)

    assert signed_in().get(f"{run.get_absolute_url()}cancel/").status_code == 405


# Starting


@pytest.fixture
def shop():
    agent = an_agent("shop-support", "Shop support")
    a_release(agent)
    return agent


def fields(**changed):
    return {"agent": "shop-support", "principal_id": "cus_1", "principal_label": "Ana", "text": "Refund it", **changed}


def test_starting_leads_to_the_trace_of_the_new_run(shop):
    response = signed_in().post("/start/", fields(max_steps="7", max_cost_usd="0.25"))

    run = Run.objects.get()
    assert response.status_code == 302
    assert response["Location"] == run.get_absolute_url()
    assert (run.principal_id, run.principal_label, run.input_text) == ("cus_1", "Ana", "Refund it")
    assert run.budgets["max_steps"] == 7
    assert Decimal(run.budgets["max_cost_usd"]) == Decimal("0.25")
    assert run.started_by_label == "Mara Okafor"


def test_sending_the_same_form_twice_starts_one_run(shop):
    client = signed_in()
    form_id = re.search(r'name="form_id" value="([^"]+)"', text_of(client.get("/start/")))[1]

    first, second = (client.post("/start/", fields(form_id=form_id)) for _ in range(2))

    assert first["Location"] == second["Location"]
    assert Run.objects.count() == 1


@pytest.mark.parametrize(
    ("changed", "status", "sentence"),
    [
        ({"text": ""}, 422, "This field is required"),
        ({"principal_id": " "}, 422, "This field is required"),
        ({"max_steps": "many"}, 422, "Enter a whole number"),
        ({"max_steps": "41"}, 422, "Budgets can only be lowered"),
        ({"max_steps": "100000"}, 422, "less than or equal to 10000"),
    ],
)
def test_a_refused_form_says_why_and_loses_nothing(shop, changed, status, sentence):
    response = signed_in().post("/start/", fields(**changed, max_tokens="1234"))

    page = text_of(response)
    assert response.status_code == status
    assert sentence in page
    assert 'value="1234"' in page
    kept = {**fields(), **changed}
    assert f'value="{kept["principal_label"]}"' in page
    assert kept["text"] in page
    assert not Run.objects.exists()


def test_while_new_runs_are_paused_the_page_says_so_and_by_which_switch(shop):
    a_switch(SwitchEffect.PAUSE_RUNS, Scope.AGENT, "shop-support", reason="Prices are wrong.")
    client = signed_in()

    page = text_of(client.get("/start/"))
    response = client.post("/start/", fields())

    assert "Agent shop-support: new runs are paused" in page
    assert "Prices are wrong." in page
    run = Run.objects.get()
    assert response["Location"] == run.get_absolute_url()
    held = text_of(client.get(run.get_absolute_url()))
    assert "Prices are wrong." in held
    assert "The run is accepted and starts when that is lifted." in held


def test_going_on_with_a_conversation_keeps_thread_and_person(shop):
    thread = a_thread(shop, principal_id="cus_9", principal_label="Jonas Weber")
    a_run(agent=shop, thread=thread, input_text="Where is it?", answer="On its way.")
    client = signed_in()

    page = text_of(client.get(f"/start/?thread={thread.public_id}"))
    client.post("/start/", fields(thread=thread.public_id, principal_id="somebody-else", text="When?"))

    run = Run.objects.order_by("-created_at").first()
    assert "Where is it?" in page
    assert "On its way." in page
    assert (run.thread_id, run.principal_id, run.input_text) == (thread.pk, "cus_9", "When?")


def test_a_message_into_a_thread_that_still_works_waits_for_its_turn(shop):
    thread = a_thread(shop)
    first = a_run(RunStatus.WAITING, agent=shop, thread=thread)

    signed_in().post("/start/", fields(thread=thread.public_id, text="And now?"))

    second = Run.objects.exclude(pk=first.pk).get()
    assert (second.status, second.held_for, second.input_text) == (RunStatus.QUEUED, "thread", "And now?")


def test_agents_and_threads_of_others_cannot_be_started(shop):
    foreign = an_agent("foreign")
    a_release(foreign)
    thread = a_thread(foreign)
    client = signed_in(Role.OPERATOR, agent="shop-support")

    assert client.get("/start/?agent=foreign").status_code == 404
    assert client.get(f"/start/?thread={thread.public_id}").status_code == 404
    assert client.post("/start/", fields(agent="foreign")).status_code == 404
    assert client.get("/start/people/?agent=foreign").status_code == 404
    assert not Run.objects.exists()


def test_those_who_only_look_on_cannot_start_runs(shop):
    client = signed_in(Role.MANAGER)

    assert client.get("/start/").status_code == 403
    assert client.post("/start/", fields()).status_code == 403


@pytest.fixture
def offered(monkeypatch):
    ana = Person("cus_1001", "Ana Lima", "Lisboa")
    everything = Samples(inputs=[Sample("Broken headphones", "Please refund order 10482.", ana)], people=[ana])
    monkeypatch.setitem(
        samples._registry, "shop-support", lambda search: everything if search in "cus_1001" else Samples()
    )


def test_a_sample_fills_the_form(shop, offered):
    page = text_of(signed_in().get("/start/?agent=shop-support&sample=0"))

    assert 'value="cus_1001"' in page
    assert "Please refund order 10482.</textarea>" in page
    assert signed_in().get("/start/?sample=99").status_code == 200


def test_people_are_suggested_while_typing(shop, offered):
    client = signed_in()

    assert "Ana Lima, Lisboa" in text_of(client.get("/start/people/?agent=shop-support&principal_id=cus_10"))
    assert "Ana Lima" not in text_of(client.get("/start/people/?agent=shop-support&principal_id=zzz"))


def test_samples_that_fail_do_not_keep_a_run_from_starting(shop, monkeypatch):
    def broken(search):
        raise RuntimeError("the shop is closed")

    monkeypatch.setitem(samples._registry, "shop-support", broken)

    assert signed_in().get("/start/").status_code == 200


def test_without_any_agent_the_page_says_what_is_missing():
    assert "No agent to start" in text_of(signed_in().get("/start/"))


# What the model is writing


def test_the_text_that_is_being_written_is_fetched_alone():
    run = a_run(RunStatus.RUNNING)
    client = signed_in()
    client.get(f"{run.get_absolute_url()}draft/")

    nothing = client.get(f"{run.get_absolute_url()}draft/")
    Draft.objects.create(run=run, text="I will <b>refund</b> it\u202e")
    with CaptureQueriesContext(connection) as asked:
        written = text_of(client.get(f"{run.get_absolute_url()}draft/"))

    assert nothing.status_code == 204
    assert "I will &lt;b&gt;refund&lt;/b&gt; it" in written
    assert "U+202E" in written
    assert "<html" not in written
    assert len(asked) <= 6


def test_the_text_that_is_being_written_is_masked_like_the_rest():
    run = a_run(RunStatus.RUNNING)
    Draft.objects.create(run=run, text="Write to ana@example.com")

    assert "ana@" in text_of(signed_in().get(f"{run.get_absolute_url()}draft/"))
    assert "ana@" not in text_of(signed_in(Role.AUDITOR).get(f"{run.get_absolute_url()}draft/"))
    assert signed_in(Role.OPERATOR, agent="another").get(f"{run.get_absolute_url()}draft/").status_code == 404


@pytest.mark.parametrize("tab", ["", "?tab=conversation"])
def test_a_run_at_work_listens_for_the_text_that_is_being_written(tab):
    run = a_run(RunStatus.RUNNING)
    client = signed_in()

    assert f"live:draft:{run.public_id} from:body" in text_of(client.get(run.get_absolute_url() + tab))
    Run.objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED, answer="Yes.", finished_at=now())
    page = text_of(client.get(run.get_absolute_url() + tab))
    assert "live:draft" not in page
    assert 'id="run-said" hidden>Succeeded. <span class="untrusted">Yes.' in page
