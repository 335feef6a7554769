"""Agents, releases and kill switches as people use them: by role, without script, with the queue away."""

from __future__ import annotations

import json
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from console import ids
from console.models import AuditEntry
from console.roles import EVERYONE, Role
from releases import acknowledgements, releases, switches
from releases.models import Activation, KillSwitch, Release
from releases.states import Scope, SwitchEffect
from tests.builders import a_bundle, a_release, a_switch, a_tool, a_user, an_actor, an_agent, an_approval

pytestmark = pytest.mark.django_db


@pytest.fixture
def release():
    return a_release(an_agent("shop-support", "Shop support"), version="1.0")


def a_browser(role=Role.OPERATOR, *, agent="", user=None, **options):
    browser = Client(**options)
    browser.force_login(user or a_user(role, agent=agent))
    return browser


def url(name, *args, query=""):
    return reverse(f"releases:{name}", args=args) + query


def text(answer):
    return answer.content.decode()


def compare_url(a, b):
    return url("release-compare", query=f"?a={a.public_id}&b={b.public_id}")


# Agents and releases


def test_the_list_shows_owner_active_release_and_last_change(release):
    agent = release.agent
    agent.owner = a_user(name="Ines Duarte")
    agent.save()
    newer = a_release(agent, is_active=False, version="2.0")
    releases.activate(newer.pk, by=an_actor(), reason="better")

    page = text(a_browser(Role.AUDITOR).get(url("agent-list")))

    for part in ("Shop support", "Ines Duarte", ">2.0</a>", "just now"):
        assert part in page


def test_an_agent_without_a_release_says_what_to_do():
    page = text(a_browser().get(an_agent("new").get_absolute_url()))

    assert "No active release: it answers no runs" in page
    assert "Paste a bundle to make the first one" in page


def test_the_history_says_who_and_why(release):
    newer = a_release(release.agent, is_active=False, version="2.0")
    releases.activate(newer.pk, by=a_user(name="Mara Okafor").actor(), reason="Clearer on <b>damage</b>")

    page = text(a_browser().get(release.agent.get_absolute_url()))

    assert "Mara Okafor" in page
    assert "Clearer on &lt;b&gt;damage&lt;/b&gt;" in page
    assert page.index(">2.0</a>") < page.index(">1.0</a>")


def test_a_release_is_told_in_words():
    release = a_release(
        rules=[{
            "id": "refund-limit", "tool": "issue_refund", "then": "ask", "reason": "Large refunds need a person",
            "when": [{"argument": "amount", "op": "gt", "value": 100}],
        }],
        guardrails=[{"id": "long", "on": "input", "check": "length", "then": "refuse"}],
        budgets={"max_steps": 12},
        instructions="Be kind.\nNever guess.",
    )  # fmt: skip

    page = text(a_browser(Role.MANAGER).get(release.get_absolute_url()))

    for part in (
        "When amount is over 100, on issue_refund: ask a person within 60 min. Large refunds need a person",
        "Input longer than allowed is refused",
        "Moves money",
        "Be kind.",
        "shop-support (scripted)",
        release.digest[:16],
    ):
        assert part in page, part
    assert re.search(r"<dt>Steps</dt><dd[^>]*>12</dd>", page)


def test_a_release_is_set_against_the_active_one_and_the_active_one_against_the_one_before(release):
    newer = a_release(release.agent, is_active=False, version="2.0", instructions="Be brief.")
    browser = a_browser()

    page = text(browser.get(newer.get_absolute_url()))
    assert "against 1.0, the active one" in page
    assert "Be brief." in page

    releases.activate(newer.pk, by=an_actor(), reason="shorter")
    page = text(browser.get(newer.get_absolute_url()))
    assert "against 1.0, the one before" in page
    assert "What changed" not in text(browser.get(a_release().get_absolute_url()))


def test_compare_shows_both_ways_and_refuses_strangers_to_each_other(release):
    newer = a_release(release.agent, is_active=False, version="2.0", tools=[a_tool("send_reply")])
    browser = a_browser()

    page = text(browser.get(compare_url(release, newer)))
    assert re.search(r'data-kind="added">.*send_reply', page, re.S)
    assert re.search(r'data-kind="removed">.*issue_refund', page, re.S)
    assert "Nothing differs but the version label" in text(browser.get(compare_url(newer, newer)))

    assert browser.get(compare_url(release, a_release())).status_code == 422
    assert browser.get(url("release-compare")).status_code == 404
    assert browser.get(url("release-compare", query="?a=rel_x&b=rel_y")).status_code == 404


def test_the_bundle_can_be_taken_away_as_it_is(release):
    answer = a_browser(Role.AUDITOR).get(url("release-bundle", release.pk))

    assert json.loads(answer.content) == release.content
    assert 'filename="shop-support-1.0.json"' in answer["Content-Disposition"]


def test_hostile_texts_of_a_bundle_are_shown_as_text():
    hostile = "<script>alert(1)</script>\u202e"
    release = a_release(
        note=hostile, instructions=hostile, tools=[a_tool("t", description=hostile)],
        rules=[{"id": "r", "tool": "t", "then": "refuse", "reason": hostile}],
    )  # fmt: skip

    page = text(a_browser().get(release.get_absolute_url()))

    assert "<script>alert" not in page
    assert "U+202E" in page


# Making releases


def create(browser, release, **posted):
    return browser.post(url("release-create", release.agent.slug), posted)


def test_a_pasted_bundle_becomes_a_release(release):
    answer = create(a_browser(), release, bundle=json.dumps(a_bundle("2.0")), note="Second")

    made = Release.objects.get(version="2.0")
    assert answer["Location"] == made.get_absolute_url()
    assert made.note == "Second"
    assert not Activation.objects.exists()


def test_an_uploaded_file_goes_before_the_text(release):
    file = SimpleUploadedFile("bundle.json", b"\xef\xbb\xbf" + json.dumps(a_bundle("2.0")).encode())

    create(a_browser(), release, bundle="{}", file=file)

    assert Release.objects.filter(version="2.0").exists()


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        ("", 422, "Paste a bundle"),
        ("{not json", 422, "This is not JSON"),
        ('{"version": "2.0", "version": "3.0"}', 422, "stands in it twice"),
        ("[" * 100_000, 422, "nested more than"),
        ('{"version": "2.0"}', 422, "model"),
        ('{"version": NaN}', 422, "NaN is not a JSON number"),
        (json.dumps(a_bundle("1.0", instructions="Different.")), 409, "choose a new version label"),
    ],
)
def test_what_cannot_be_used_is_explained_and_nothing_typed_is_lost(release, typed, status, said):
    answer = create(a_browser(), release, bundle=typed, note="My note")

    assert answer.status_code == status
    page = text(answer)
    assert said in page
    assert 'value="My note"' in page
    if len(typed) < 1000:
        area = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.S)
        assert area is not None
        assert area[1].replace("&quot;", '"').replace("&#x27;", "'") == typed
    assert Release.objects.count() == 1


def test_a_file_that_is_no_text_or_too_large_is_refused(release):
    for content in (b"\xff\xfe\x00", b" " * 1_000_001):
        answer = create(a_browser(), release, file=SimpleUploadedFile("bundle.json", content))

        assert answer.status_code == 422
    assert Release.objects.count() == 1


def test_copy_as_new_begins_with_the_bundle_without_its_version(release):
    page = text(a_browser().get(url("release-create", "shop-support", query=f"?copy={release.public_id}")))

    area = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.S)
    assert area is not None
    copied = json.loads(area[1].replace("&quot;", '"').replace("&#x27;", "'"))
    assert copied == {**release.content, "version": ""}


def test_a_release_of_another_agent_cannot_be_copied_in(release):
    other = a_release(an_agent("mail"), instructions="Secret of mail")

    page = text(a_browser().get(url("release-create", "shop-support", query=f"?copy={other.public_id}")))

    assert "Secret of mail" not in page


# Activating


def test_make_active_and_return(release):
    newer = a_release(release.agent, is_active=False, version="2.0")
    browser = a_browser()
    assert "Make active" in text(browser.get(newer.get_absolute_url()))

    browser.post(url("release-activate", newer.pk), {"reason": "clearer"})
    assert Activation.objects.get().release == newer

    Activation.objects.create(agent=release.agent, release=release, by_label="x", reason="at first")
    assert "Return to this release" in text(browser.get(release.get_absolute_url()))


def test_activate_without_a_reason_is_refused(release):
    newer = a_release(release.agent, is_active=False, version="2.0")

    answer = a_browser().post(url("release-activate", newer.pk), {"reason": ""})

    assert answer.status_code == 422
    assert not Activation.objects.exists()


def test_a_release_with_unreviewed_labels_offers_no_button_and_says_why(release):
    newer = a_release(release.agent, is_active=False, tools=[a_tool("delete_account", labelled=False)])
    browser = a_browser()

    page = text(browser.get(newer.get_absolute_url()))

    assert re.search(r'disabled aria-describedby="whynot"', page)
    assert "whose labels nobody has reviewed: delete_account" in page
    assert browser.post(url("release-activate", newer.pk), {"reason": "x"}).status_code == 422


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.MANAGER, Role.AUDITOR])
def test_who_only_looks_on_can_neither_create_nor_activate(role, release):
    newer = a_release(release.agent, is_active=False, version="2.0")
    browser = a_browser(role)

    page = text(browser.get(newer.get_absolute_url()))
    assert "You may not change the active release" in page
    assert "Copy as new" not in page
    assert browser.post(url("release-activate", newer.pk), {"reason": "x"}).status_code == 403
    assert browser.get(url("release-create", "shop-support")).status_code == 403
    assert create(browser, release, bundle=json.dumps(a_bundle("3.0"))).status_code == 403
    assert Release.objects.count() == 2
    assert not AuditEntry.objects.exists()


# Kill switches


@pytest.fixture
def board(release):
    return a_release(release.agent, version="9.0", tools=[
        a_tool("issue_refund"), a_tool("lookup_order", effect="read", retry="read"),
    ])  # fmt: skip


def engage(browser, scope="tool", effect="disable_tool", target="issue_refund", reason=""):
    posted = {"scope": scope, "effect": effect, "target": target, "reason": reason}
    return browser.post(url("switch-engage"), posted)


def test_every_agent_and_every_tool_of_an_active_release_has_its_switch(board):
    page = text(a_browser().get(url("switch-list")))

    for part in ("Shop support", "issue_refund", "lookup_order", "Used by Shop support", "Reads only"):
        assert part in page
    assert page.count(url("switch-engage")) == 3 + 3 + 3


def test_engaging_is_one_post_and_shows_everywhere(board):
    waiting = an_approval(action="issue_refund")
    browser = a_browser(user=a_user(name="Mara Okafor"))
    assert "1 waiting request cannot be decided" in text(browser.get(url("switch-list")))

    answer = engage(browser, reason="Double refunds")

    assert answer["Location"] == url("switch-list")
    waiting.refresh_from_db()
    assert waiting.status == "frozen"
    page = text(browser.get(url("agent-list")))
    assert re.search(r"issue_refund is off</span>, engaged .* by Mara Okafor: .*Double refunds", page)
    assert "1 engaged" in page
    page = text(browser.get(url("switch-list")))
    assert page.index("Engaged now") < page.index("Everything")
    assert "0 calls blocked" in page


def test_the_reason_may_follow(board):
    browser = a_browser()
    engage(browser)
    switch = KillSwitch.objects.get()
    assert "Why was it engaged?" in text(browser.get(url("switch-list")))

    browser.post(url("switch-explain", switch.pk), {"reason": "Incident 31"})

    page = text(browser.get(url("switch-list")))
    assert "Incident 31" in page
    assert "Why was it engaged?" not in page


def test_lifting_needs_the_phrase_and_a_reason(board):
    browser = a_browser()
    engage(browser)
    switch = KillSwitch.objects.get()

    def lift(**posted):
        return browser.post(url("switch-lift", switch.pk), posted).status_code

    assert lift(phrase="turn on", reason="fixed") == 422
    assert lift(phrase="turn on issue_refund", reason="") == 422
    switch.refresh_from_db()
    assert switch.lifted_at is None
    assert lift(phrase="turn on issue_refund", reason="fixed") == 302
    switch.refresh_from_db()
    assert switch.lifted_at is not None
    assert "issue_refund is off" not in text(browser.get(url("switch-strip")))


@pytest.mark.parametrize(
    "posted",
    [
        {"scope": "galaxy", "effect": "pause_runs", "target": ""},
        {"scope": "tool", "effect": "explode", "target": "issue_refund"},
        {"scope": "tool", "effect": "disable_tool", "target": "no_such_tool"},
        {},
    ],
)
def test_a_switch_that_does_not_exist_is_refused(board, posted):
    assert a_browser().post(url("switch-engage"), posted).status_code == 422
    assert not KillSwitch.objects.exists()


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.MANAGER, Role.AUDITOR])
def test_who_may_not_pull_switches_sees_them_locked_with_the_reason(board, role):
    switch = a_switch()
    browser = a_browser(role)

    page = text(browser.get(url("switch-list")))

    assert "data-locked" in page
    assert "Roles that may: admin, operator" in page
    assert url("switch-engage") not in page
    assert engage(browser, target="lookup_order").status_code == 403
    assert (
        browser.post(url("switch-lift", switch.pk), {"phrase": "turn on issue_refund", "reason": "x"}).status_code
        == 403
    )
    assert browser.post(url("switch-explain", switch.pk), {"reason": "x"}).status_code == 403
    assert KillSwitch.objects.engaged().count() == 1


def test_an_operator_of_one_agent_turns_that_agent_and_nothing_wider(board):
    an_agent("mail", "Mail triage")
    browser = a_browser(agent="shop-support")

    page = text(browser.get(url("switch-list")))

    assert "Mail triage" not in page
    assert "reaches beyond the agents you are responsible for" in page
    assert engage(browser, "agent", "writes_off", "shop-support").status_code == 302
    assert engage(browser, "agent", "writes_off", "mail").status_code == 403
    assert engage(browser).status_code == 403
    assert KillSwitch.objects.count() == 1


def test_the_workers_say_whether_they_have_seen_it(board, monkeypatch):
    monkeypatch.setattr(acknowledgements, "_answers", [])
    browser = a_browser()
    engage(browser)
    assert "Seen by" not in text(browser.get(url("switch-list")))

    asked = []
    for seen, said in (
        ((4, 4, 0.8), "Seen by 4 of 4 workers in 0.8 s"),
        ((3, 4, None), "Seen by 3 of 4 workers. The others"),
        ((0, 0, None), "No worker is running"),
    ):
        acknowledgements.register(lambda epoch, seen=seen: asked.append(epoch) or seen)
        assert said in re.sub(r"<[^>]+>", "", text(browser.get(url("switch-list"))))
    assert set(asked) == {switches.current_epoch()}


def test_the_page_opens_when_the_acknowledgements_fail(board, monkeypatch):
    monkeypatch.setattr(acknowledgements, "_answers", [])
    acknowledgements.register(lambda epoch: 1 / 0)
    a_switch()

    assert a_browser().get(url("switch-list")).status_code == 200


def test_switches_work_when_redis_is_away(board, settings):
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
        }
    }
    browser = a_browser()

    assert browser.get(url("switch-list")).status_code == 200
    assert engage(browser).status_code == 302
    assert KillSwitch.objects.engaged().count() == 1


def test_the_history_keeps_who_engaged_and_lifted_and_why(board):
    browser = a_browser(user=a_user(name="Mara Okafor"))
    engage(browser, reason="Double refunds")
    switch = KillSwitch.objects.get()
    browser.post(url("switch-lift", switch.pk), {"phrase": "turn on issue_refund", "reason": "Vendor fixed it"})

    page = text(browser.get(url("switch-list")))

    assert "Engaged now" not in page
    assert "Vendor fixed it" in page


def test_the_strip_names_what_is_engaged_and_counts_the_rest(board):
    browser = a_browser()
    assert text(browser.get(url("switch-strip"))).strip() == ""
    assert text(browser.get(url("switch-count"))).strip() == ""

    a_switch(target="a_tool", reason="Refunds go out twice.")
    strip = text(browser.get(url("switch-strip")))
    assert "Refunds go out twice." in strip
    assert ".." not in strip

    for target in ("b_tool", "c_tool", "d_tool"):
        a_switch(target=target, reason="<script>")

    strip = text(browser.get(url("switch-strip")))
    assert strip.count(" is off") == 3
    assert "and 1 more" in strip
    assert "<script>" not in strip
    assert "4 engaged" in text(browser.get(url("switch-count")))


# Who sees what


GETS = ["agent-list", "switch-list", "switch-count", "switch-strip"]


@pytest.mark.parametrize("role", sorted(EVERYONE))
@pytest.mark.parametrize("name", GETS)
def test_every_role_may_look(name, role, release):
    assert a_browser(role).get(url(name)).status_code == 200


@pytest.mark.parametrize("name", GETS)
def test_strangers_are_sent_to_sign_in_and_people_without_a_role_are_refused(name):
    assert Client().get(url(name)).status_code == 302
    assert a_browser("").get(url(name)).status_code == 403


def test_a_foreign_agent_and_its_releases_are_not_there(release):
    browser = a_browser(agent="mail")
    newer = a_release(release.agent, is_active=False, version="2.0")

    for address in (
        release.agent.get_absolute_url(), release.get_absolute_url(), url("release-bundle", release.pk),
        url("release-create", "shop-support"), compare_url(release, newer), url("release-detail", ids.new()),
        url("agent-detail", "no-such-agent"),
    ):  # fmt: skip
        assert browser.get(address).status_code == 404, address
    assert browser.post(url("release-activate", newer.pk), {"reason": "x"}).status_code == 404
    assert create(browser, release, bundle="{}").status_code == 404
    assert "Shop support" not in text(browser.get(url("agent-list")))
    assert not Activation.objects.exists()


@pytest.mark.parametrize("name", ["release-activate", "switch-lift", "switch-explain", "switch-engage"])
def test_actions_are_posts_with_a_token(name, release):
    newer, switch = a_release(release.agent, is_active=False, version="2.0"), a_switch()
    args = {"release-activate": [newer.pk], "switch-engage": []}.get(name, [switch.pk])
    posted = {"reason": "x", "phrase": "turn on issue_refund", "scope": "everything", "effect": "pause_runs"}

    assert a_browser(Role.ADMIN).get(url(name, *args), posted).status_code == 405
    assert a_browser(Role.ADMIN, enforce_csrf_checks=True).post(url(name, *args), posted).status_code == 403

    switch.refresh_from_db()
    assert (switch.lifted_at, KillSwitch.objects.count()) == (None, 1)
    assert not Activation.objects.exists()


def test_the_switches_need_few_queries(board, django_assert_max_num_queries):
    for number in range(12):
        a_release(an_agent(f"agent-{number}"), tools=[a_tool(f"tool_{number}")])
    switches.engage(Scope.EVERYTHING, SwitchEffect.PAUSE_RUNS, "", by=an_actor(), reason="x")
    browser = a_browser()

    with django_assert_max_num_queries(12):
        browser.get(url("switch-list"))
