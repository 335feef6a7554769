"""The inbox as people use it: without script, by role, and what it never does on a GET."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalEvent, ApprovalRequest, Decision
from approvals.states import ApprovalStatus, Verdict
from console import ids
from console.models import AuditEntry
from console.roles import Role
from tests.approvals.conftest import KIND
from tests.builders import a_decision, a_user, an_actor, an_approval

pytestmark = pytest.mark.django_db


def a_request(**fields):
    return an_approval(subject_kind=KIND, **fields)


def a_browser(role=Role.SUPPORT, user=None, **options):
    browser = Client(**options)
    browser.force_login(user or a_user(role))
    return browser


def url(name, request=None, query=""):
    return reverse(f"approvals:{name}", args=[request.pk] if request else []) + query


def text(answer):
    return answer.content.decode()


def approve(browser, request, query="", **fields):
    posted = {"verdict": "approve", "version": request.version, "reason": "", **fields}
    return browser.post(url("decide", request, query), posted)


# What is shown


def test_the_list_groups_by_due_time_and_marks_what_is_urgent():
    a_request(title="Late one", due_at=now() - timedelta(minutes=1))
    a_request(title="Soon one", due_at=now() + timedelta(minutes=3))
    a_request(title="Far one", due_at=now() + timedelta(days=2))
    a_request(title="Stopped one", status=ApprovalStatus.FROZEN)

    page = text(a_browser().get(url("list")))

    headings = re.findall(r'<h2 class="grp"><span>([^<]+)</span>', page)
    assert headings == ["Overdue", "Due within 10 minutes", "Later", "Stopped by a kill switch"]
    assert "data-near" in page
    assert "data-over" in page


def test_filters_sort_and_views_live_in_the_address():
    browser = a_browser()
    a_request(title="Refund for Nordlys", risk="high", action="issue_refund", amount_usd=10)
    a_request(title="Reply to Ana", risk="low", action="send_reply", agent="mail-triage", amount_usd=90)

    def titles(query):
        return re.findall(r'clip strong"><span class="untrusted">([^<]+)<', text(browser.get(url("list", query=query))))

    assert titles("?risk=high") == ["Refund for Nordlys"]
    assert titles("?tool=send_reply") == ["Reply to Ana"]
    assert titles("?agent=mail-triage") == ["Reply to Ana"]
    assert titles("?q=nordlys") == ["Refund for Nordlys"]
    assert titles("?q=90") == ["Reply to Ana"]
    assert titles("?sort=amount") == ["Reply to Ana", "Refund for Nordlys"]
    assert titles("?sort=newest") == ["Reply to Ana", "Refund for Nordlys"]
    assert titles("?view=mine") == []
    assert len(titles("?risk=nonsense&sort=nonsense&view=nonsense")) == 2
    assert "Nothing fits the filter" in text(browser.get(url("list", query="?q=absent")))


def test_done_today_shows_what_was_decided(subject):
    request, mara = a_request(title="Refund one"), a_user(Role.SUPPORT)
    requests.decide(request.pk, Verdict.APPROVE, by=mara.actor(), reason="")
    a_request(title="Old one", status=ApprovalStatus.APPROVED, decided_at=now() - timedelta(days=2))

    page = text(a_browser().get(url("list", query="?view=done")))

    assert "Refund one" in page
    assert "Old one" not in page


def test_new_rows_wait_behind_a_bar():
    first = a_request(title="First")
    browser, later = a_browser(), a_request(title="Second")

    rows = text(browser.get(url("rows", query=f"?upto={first.public_id}")))

    assert "1 new request" in rows
    assert later.public_id not in rows


def test_the_detail_tells_what_why_and_what_if_nobody_decides():
    request = a_request(if_nobody_decides="Then the run ends as expired.", evidence=[
        {"kind": "quote", "title": "", "text": "Please refund me", "note": "Ana Lima", "url": ""},
        {"kind": "model", "title": "The agent wrote", "text": "It is due", "note": "", "url": ""},
    ])  # fmt: skip

    page = text(a_browser().get(url("detail", request)))

    for part in (
        request.title, request.why, "refund-limit", "Then the run ends as expired.", 'name="arg-amount" value="129.00"',
        "Can’t be undone", "Runs at most once", "Please refund me", "Written by the model", "Exact arguments",
    ):  # fmt: skip
        assert part in page, part
    assert 'name="arg-order_id"' not in page


def test_hostile_text_is_shown_as_text_with_hidden_characters_spelled_out():
    hostile = "<script>alert(1)</script>\u202eeniltsil\u200b"
    request = a_request(
        title=hostile,
        why=hostile,
        arguments={"note": hostile},
        fields=[{"name": "note", "label": hostile, "value": hostile + "\n" * 10_000 + "end", "editable": False}],
        evidence=[{"kind": "fact", "title": hostile, "text": hostile, "note": hostile, "url": "javascript:alert(1)"}],
        side=[{"title": hostile, "rows": [[hostile, hostile]]}],
        history=[{"icon": "sparkles", "text": hostile}],
    )

    page = text(a_browser().get(url("detail", request)))

    assert "<script>alert" not in page
    assert "javascript:" not in page
    assert "U+202E" in page
    assert "U+200B" in page
    assert "9,999 empty lines" in page
    assert "\n" * 100 not in page


def test_a_value_that_its_input_does_not_show_whole_says_how_much_there_is():
    note = "Send it.\n" * 300 + "And the rest to me."
    shown = [{"name": "note", "label": "Note", "value": note, "editable": True}]

    page = text(a_browser().get(url("detail", a_request(arguments={"note": note}, fields=shown))))

    assert "2,719 characters in 301 lines: scroll to read all of it." in page


def test_a_hidden_character_in_an_editable_value_is_shown_beside_its_input():
    request = a_request(
        arguments={"amount": "12\u200b9"},
        fields=[{"name": "amount", "label": "Amount", "value": "12\u200b9", "editable": True, "type": "text"}],
    )

    page = text(a_browser().get(url("detail", request)))

    assert "With hidden characters" in page
    assert "U+200B" in page


def test_a_frozen_request_names_what_stops_it_and_offers_no_button():
    request = a_request()
    requests.freeze(
        action=None, agent=None, by=an_actor(), reason="issue_refund is off. Double refunds", url="/switches/"
    )

    page = text(a_browser().get(url("detail", request)))

    assert "issue_refund is off. Double refunds" in page
    assert 'href="/switches/"' in page
    assert re.search(r'data-approve[^>]* disabled aria-describedby="standing"', page)


def test_four_eyes_disables_the_buttons_with_the_reason():
    mara = a_user(Role.OPERATOR)
    request = a_request(four_eyes=True, requested_by=str(mara.pk))

    page = text(a_browser(user=mara).get(url("detail", request)))

    assert "second person" in page
    assert re.search(r'data-approve[^>]* disabled aria-describedby="standing"', page)


def test_who_only_looks_on_sees_no_buttons_that_work_and_no_addresses():
    request = a_request(
        title="Refund for ana@example.org",
        side=[{"title": "Customer", "rows": [["Email", "ana@example.org"]]}],
    )

    page = text(a_browser(Role.MANAGER).get(url("detail", request)))

    assert "Your role may not decide" in page
    assert "ana@example.org" not in page
    assert "arg-amount" not in page
    assert 'data-may="no"' in page
    assert "ana@example.org" in text(a_browser(Role.SUPPORT).get(url("detail", request)))


def test_a_decided_request_shows_who_decided_what(subject):
    request = a_request()
    requests.decide(
        request.pk,
        Verdict.APPROVE,
        by=a_user(Role.SUPPORT, name="Mara Okafor").actor(),
        reason="",
        edits={"amount": "99"},
    )

    page = text(a_browser().get(url("detail", request)))

    assert "Mara Okafor approved this" in page
    assert re.search(r"<del[^>]*><span[^>]*>129.00</span></del>", page)
    assert "30.00 less" in page
    assert "data-approve" not in page


def test_a_page_that_is_older_than_the_request_says_so():
    request = a_request(version=4)

    page = text(a_browser().get(url("detail", request, "?shown=3")))

    assert "has changed since you opened it" in page
    assert "data-closed" in page


def test_similar_decisions_are_counted():
    for verdict in (Verdict.APPROVE, Verdict.APPROVE, Verdict.REJECT):
        a_decision(a_request(status=ApprovalStatus.APPROVED), verdict)

    page = text(a_browser().get(url("detail", a_request())))

    assert "2 of the last 3 requests under this rule were approved as proposed" in page


def test_every_button_that_sends_an_answer_is_held_while_offline(subject):
    page = text(a_browser().get(url("detail", a_request())))

    answers = re.findall(r'<button class="btn (?:primary|danger)"([^>]*)>', page.partition('class="bar-act"')[2])
    assert len(answers) == 2
    assert all("data-decides" in answer for answer in answers)


def test_the_count_is_empty_when_nothing_waits():
    browser = a_browser()
    assert text(browser.get(url("count"))).strip() == ""

    a_request()
    a_request(status=ApprovalStatus.FROZEN)

    assert ">1<" in text(browser.get(url("count")))


# Deciding without script


def test_approve_posts_redirects_to_the_next_and_says_what_was_done(subject):
    first = a_request(title="Refund one", due_at=now() + timedelta(minutes=1), subject_url="/runs/one/")
    second = a_request(title="Refund two", due_at=now() + timedelta(minutes=2))

    answer = approve(a_browser(), first, "?sort=due", **{"arg-amount": "99.00"})

    assert answer.status_code == 302
    assert answer["Location"] == url("detail", second)
    assert Decision.objects.get().edits == {"amount": ["129.00", "99.00"]}
    page = text(answer.client.get(answer["Location"]))
    assert "Approved with 1 edit: Refund one; amount 99.00" in page
    assert '<a href="/runs/one/">Open run</a>' in page


def test_the_filter_stays_in_the_address_after_a_decision(subject):
    first, _ = a_request(risk="high"), a_request(risk="low")
    third = a_request(risk="high")

    answer = approve(a_browser(), first, "?risk=high")

    assert answer["Location"] == url("detail", third, "?risk=high")


def test_after_the_last_one_the_empty_list_follows(subject):
    answer = approve(a_browser(), a_request(), follow=True)

    assert answer["Location"] == url("list")
    page = text(answer.client.get(answer["Location"]))
    assert "Nothing is waiting for you" in page
    assert "1 decided today" in page


def test_an_unchanged_input_is_no_edit(subject):
    approve(a_browser(), a_request(), **{"arg-amount": "129.00"})

    assert Decision.objects.get().edits == {}


def test_edits_keep_the_type_of_the_proposal(subject):
    request = a_request(
        arguments={"amount": 129.5, "days": 3, "urgent": False, "tags": ["a"], "note": "x"},
        fields=[
            {"name": name, "label": name, "value": "", "editable": True}
            for name in ("amount", "days", "urgent", "tags", "note")
        ],
    )
    edits = {"arg-amount": "99", "arg-days": "4", "arg-urgent": "true", "arg-tags": '["b"]', "arg-note": "y\r\nz"}

    approve(a_browser(), request, **edits)

    assert Decision.objects.get().arguments == {
        "amount": "99.00", "days": 4, "urgent": True, "tags": ["b"], "note": "y\nz",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "typed"), [("days", "soon"), ("amount", "NaN"), ("amount", "inf"), ("tags", "[")])
def test_text_of_the_wrong_kind_decides_nothing_and_stays_on_the_page(subject, name, typed):
    request = a_request(
        arguments={"amount": 129.5, "days": 3, "tags": ["a"]},
        fields=[{"name": key, "label": key, "value": "", "editable": True} for key in ("amount", "days", "tags")],
    )

    answer = approve(a_browser(), request, reason="my note", **{f"arg-{name}": typed})

    assert answer.status_code == 422
    page = text(answer)
    assert "cannot be read as" in page
    assert 'value="my note"' in page
    assert f'value="{typed}"' in page or typed in page
    assert not Decision.objects.exists()


def test_values_that_the_tool_refuses_stay_on_the_page(subject):
    request = a_request()

    answer = approve(a_browser(), request, **{"arg-amount": "5000"})

    assert answer.status_code == 422
    assert 'id="problem-part"' in text(answer)
    assert "At most 999." in text(answer)
    assert 'value="5000"' in text(answer)
    assert not Decision.objects.exists()


def test_a_field_that_was_not_offered_is_refused(subject):
    answer = approve(a_browser(), a_request(), **{"arg-order_id": "7"})

    assert answer.status_code == 422
    assert "cannot be edited" in text(answer)
    assert not Decision.objects.exists()


def test_reject_takes_a_preset_and_words(subject):
    request = a_request()

    a_browser().post(
        url("decide", request),
        {"verdict": "reject", "version": 1, "preset": "The amount is wrong", "reason": "see 3.2"},
    )

    assert Decision.objects.get().reason == "The amount is wrong: see 3.2"


def test_reject_without_a_reason_is_refused(subject):
    answer = a_browser().post(url("decide", a_request()), {"verdict": "reject", "version": 1})

    assert answer.status_code == 422
    assert "needs a reason" in text(answer)


def test_conflict_shows_who_decided_and_changes_nothing(subject):
    request = a_request()
    requests.decide(request.pk, Verdict.REJECT, by=a_user(Role.SUPPORT, name="Lena Vogt").actor(), reason="too late")

    answer = approve(a_browser(), request)

    assert answer.status_code == 409
    page = text(answer)
    assert "Lena Vogt rejected this" in page
    assert "too late" in page
    assert Decision.objects.count() == 1


def test_a_form_without_a_version_is_refused(subject):
    answer = a_browser().post(url("decide", a_request()), {"verdict": "approve"})

    assert answer.status_code == 422
    assert not Decision.objects.exists()


@pytest.mark.parametrize("verdict", ["", "maybe"])
def test_a_verdict_that_does_not_exist_is_refused(subject, verdict):
    answer = a_browser().post(url("decide", a_request()), {"verdict": verdict, "version": 1})

    assert answer.status_code == 422
    assert not Decision.objects.exists()


def test_next_skips_what_colleagues_hold_what_is_stopped_and_what_is_ones_own(subject):
    mara = a_user(Role.SUPPORT)
    held = a_request(due_at=now() + timedelta(minutes=1))
    requests.claim(held.pk, by=a_user(Role.SUPPORT).actor())
    a_request(status=ApprovalStatus.FROZEN)
    a_request(requested_for=str(mara.pk))
    free = a_request(due_at=now() + timedelta(minutes=9))

    answer = a_browser(user=mara).get(url("next"))

    assert answer["Location"] == url("detail", free)


def test_a_question_is_answered_in_its_own_words(subject):
    labels = {"approve": "It happened", "reject": "It did not happen"}
    request, mara = a_request(title="Did this happen? Refund", labels=labels), a_user(Role.SUPPORT, name="Mara Okafor")
    browser = a_browser(user=mara)
    page = text(browser.get(url("detail", request)))
    assert "It did not happen" in page
    assert "Policy does not allow it" not in page

    answer = browser.post(url("decide", request), {"verdict": "reject", "version": 1, "reason": "The bank says no"})

    assert "It did not happen: Did this happen? Refund" in text(browser.get(answer["Location"]))
    assert "Mara Okafor answered “It did not happen”" in text(browser.get(url("detail", request)))


UNKNOWN = {"approve": "It happened", "reject": "It did not happen", "give_up": "Give up"}


def test_a_third_answer_has_a_button_and_a_key_only_where_it_is_offered(subject):
    browser = a_browser()

    offered = text(browser.get(url("detail", a_request(labels=UNKNOWN))))
    plain = text(browser.get(url("detail", a_request())))

    assert 'data-key="u"' in offered and 'value="give_up"' in offered and "<kbd>U</kbd> give up" in offered
    assert 'data-key="u"' not in plain and 'value="give_up"' not in plain


def test_giving_up_is_decided_shown_and_needs_a_reason(subject):
    request, mara = a_request(labels=UNKNOWN), a_user(Role.SUPPORT, name="Mara Okafor")
    browser = a_browser(user=mara)

    refused = browser.post(url("decide", request), {"verdict": "give_up", "version": 1, "reason": " "})
    assert refused.status_code == 422 and "Giving up needs a reason" in text(refused)
    browser.post(url("decide", request), {"verdict": "give_up", "version": 1, "reason": "The bank has closed."})

    assert subject.answers == [("give_up", request.arguments)]
    shown = text(browser.get(url("detail", request)))
    assert "Mara Okafor answered “Give up”" in shown and "The bank has closed." in shown


def test_giving_up_where_it_is_not_offered_decides_nothing(subject):
    request = a_request()

    answer = a_browser().post(url("decide", request), {"verdict": "give_up", "version": 1, "reason": "No idea."})

    assert answer.status_code == 422 and "does not offer to give up" in text(answer)
    request.refresh_from_db()
    assert (request.status, subject.answers) == (ApprovalStatus.PENDING, [])


# Claiming


def test_claim_is_a_post_and_shows_the_holder_to_others():
    request, mara = a_request(), a_user(Role.SUPPORT, name="Mara Okafor")

    answer = a_browser(user=mara).post(url("claim", request))

    assert answer["Location"] == url("detail", request)
    assert "Claimed by you" in text(a_browser(user=mara).get(url("detail", request)))
    other = text(a_browser().get(url("detail", request)))
    assert "Claimed by Mara Okafor" in other
    assert "Take over" in other
    assert 'data-may="no"' in other


def test_take_over_is_audited():
    request = a_request()
    a_browser().post(url("claim", request))
    lena = a_user(Role.SUPPORT)

    a_browser(user=lena).post(url("claim", request), {"take_over": "yes"})

    request.refresh_from_db()
    assert request.claimed_by == lena
    assert AuditEntry.objects.get().action == "approval.take_over"


# What must not happen


@pytest.mark.parametrize("name", ["list", "detail", "rows", "count", "next", "decide", "claim"])
def test_no_get_changes_anything(name, subject):
    request = a_request()
    needs_id = name in ("detail", "decide", "claim")
    query = "?verdict=approve&version=1&take_over=yes"

    answer = a_browser(Role.ADMIN).get(url(name, request if needs_id else None, query))

    assert answer.status_code == (405 if name in ("decide", "claim") else 302 if name == "next" else 200)
    request.refresh_from_db()
    assert (request.status, request.claimed_by, request.version) == (ApprovalStatus.PENDING, None, 1)
    assert not ApprovalEvent.objects.exists()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("name", ["decide", "claim"])
def test_a_post_without_the_csrf_token_changes_nothing(name, subject):
    request = a_request()
    browser = a_browser(Role.ADMIN, enforce_csrf_checks=True)

    answer = browser.post(url(name, request), {"verdict": "approve", "version": 1})

    assert answer.status_code == 403
    request.refresh_from_db()
    assert (request.status, request.claimed_by) == (ApprovalStatus.PENDING, None)


@pytest.mark.parametrize("role", [Role.MANAGER, Role.AUDITOR])
@pytest.mark.parametrize("name", ["decide", "claim"])
def test_who_only_looks_on_is_refused(name, role, subject):
    request = a_request()

    answer = a_browser(role).post(url(name, request), {"verdict": "approve", "version": 1})

    assert answer.status_code == 403
    assert not Decision.objects.exists()


@pytest.mark.parametrize("name", ["list", "rows", "count", "next"])
def test_strangers_are_sent_to_sign_in_and_people_without_a_role_are_refused(name):
    assert Client().get(url(name)).status_code == 302
    assert a_browser("").get(url(name)).status_code == 403


def test_another_agents_request_is_not_there(subject):
    request = a_request(agent="shop-support")
    browser = a_browser(user=a_user(Role.OPERATOR, agent="mail-triage"))

    assert request.public_id not in text(browser.get(url("list")))
    assert browser.get(url("detail", request)).status_code == 404
    assert approve(browser, request).status_code == 404
    assert browser.post(url("claim", request)).status_code == 404
    unknown = ApprovalRequest(pk=ids.new())
    assert browser.get(url("detail", unknown)).status_code == 404
    assert not Decision.objects.exists()


def test_the_page_needs_few_queries(django_assert_max_num_queries):
    for _ in range(30):
        request = a_request()
    browser = a_browser()

    with django_assert_max_num_queries(12):
        browser.get(url("detail", request))
