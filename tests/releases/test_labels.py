"""Label changes of a release: reviewed by a second person before it answers, whichever door it comes through."""

from __future__ import annotations

import json
import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import close_old_connections, connection, transaction
from django.test import Client
from django.urls import reverse

from console import problems
from console.actors import system
from console.models import AuditEntry, RoleGrant
from console.roles import Role
from releases import bundles, labels, releases
from releases.bundles import ToolManifest, canonical
from releases.models import Activation, LabelReview, Release
from releases.states import LabelVerdict
from tests.builders import a_bundle, a_release, a_tool, a_user, an_actor, an_agent
from tests.patience import PATIENCE_S
from tests.programs import Program

pytestmark = pytest.mark.django_db

PAY = a_tool("pay", effect="write", output_trust="trusted")
LOOSE = {**PAY, "effect": "read"}
STRICT = {**PAY, "effect": "destructive"}
ACCEPT, REJECT = LabelVerdict.ACCEPT, LabelVerdict.REJECT


@pytest.fixture
def ines():
    """Who makes the releases."""
    return an_actor(Role.OPERATOR)


@pytest.fixture
def mara():
    """The second person."""
    return an_actor(Role.MANAGER)


@pytest.fixture(autouse=True)
def code(monkeypatch):
    """What the installed code declares: `pay` writes."""
    known = {"pay": ToolManifest.model_validate(PAY)}
    monkeypatch.setattr(labels, "_installed", [lambda: known])
    return known


@pytest.fixture
def agent():
    """Its active release has `pay` as a write."""
    return a_release(an_agent("shop"), version="1.0", tools=[PAY]).agent


def a_change(agent, by, *tools, version="2.0", **content):
    return releases.create(agent, a_bundle(version, tools=list(tools) or [LOOSE], **content), by=by)


def fresh(release):
    return Release.objects.select_related("agent__active_release").get(pk=release.pk)


def digest(release):
    return labels.standing(fresh(release)).digest


def accept(release, by, **more):
    return labels.review(release.pk, ACCEPT, **{"digest": digest(release), "by": by, "reason": "Checked.", **more})


def activate(release, by):
    return releases.activate(release.pk, by=by, reason="Better.")


# What is a change, and against what


def test_a_looser_label_waits_for_a_second_person(agent, ines, mara):
    release = a_change(agent, ines)

    with pytest.raises(problems.Invalid, match="what the gate is told of pay"):
        activate(release, ines)
    assert "second person" in releases.why_not(fresh(release), by=ines)
    assert not labels.is_reviewed(fresh(release), "pay")
    accept(release, mara)

    assert labels.is_reviewed(fresh(release), "pay")
    assert activate(release, ines).agent.active_release_id == release.pk
    entry = AuditEntry.objects.get(action="labels.accept")
    assert (entry.actor_label, entry.reason, entry.object_id) == (mara.label, "Checked.", release.public_id)
    assert entry.changes["label changes"] == [None, "1 looser"]


def test_a_stricter_label_is_listed_and_needs_nobody(agent, ines):
    release = a_change(agent, ines, STRICT)

    found = labels.standing(fresh(release))
    assert ([change.tool for change in found.changes], found.to_review, found.digest) == (["pay"], [], "")
    activate(release, ines)


def test_the_same_labels_in_other_words_are_no_change(agent, ines):
    activate(a_change(agent, ines, {**PAY, "description": "Pays at once."}, instructions="Be brief."), ines)


def test_a_first_release_is_set_against_the_code(ines, code):
    same, other = an_agent("mail"), an_agent("calls")

    activate(a_change(same, ines, PAY), ines)
    with pytest.raises(problems.Invalid, match="told of pay"):
        activate(a_change(other, ines, LOOSE), ines)


def test_what_the_code_said_when_the_release_was_made_counts_not_what_it_says_later(ines, code):
    release = a_change(an_agent("mail"), ines, PAY)
    code["pay"] = ToolManifest.model_validate(STRICT)

    activate(release, ines)


def test_a_tool_that_nobody_declared_cannot_answer_until_somebody_reviewed_it(agent, ines, mara):
    release = a_change(agent, ines, PAY, a_tool("wire_money"))

    with pytest.raises(problems.Invalid, match="told of wire_money"):
        activate(release, ines)
    assert labels.is_reviewed(fresh(release), "pay")
    assert not labels.is_reviewed(fresh(release), "wire_money")
    accept(release, mara)
    activate(release, ines)


def test_a_tool_that_says_it_is_unlabelled_cannot_answer_whoever_reviews_it(agent, ines, mara):
    release = a_change(agent, ines, LOOSE, a_tool("wire_money", labelled=False))

    with pytest.raises(problems.Invalid, match="nobody has reviewed: wire_money"):
        accept(release, mara)
    with pytest.raises(problems.Invalid, match="nobody has reviewed: wire_money"):
        activate(release, ines)
    assert not labels.is_reviewed(fresh(release), "wire_money")

    worst = a_change(agent, ines, PAY, {"name": "wire_money", "labelled": False}, version="2.2")  # changes nothing
    with pytest.raises(problems.Invalid, match="nobody has reviewed: wire_money"):
        activate(worst, ines)
    labelled = a_change(agent, ines, PAY, a_tool("wire_money"), version="2.1")
    accept(labelled, mara)
    activate(labelled, ines)


def test_labels_of_a_recorded_tool_say_nothing_about_the_real_one(ines):
    recorded = a_release(
        an_agent("replay"), tools=[LOOSE], model={"provider": "replay", "name": "recorded"}, provenance="log"
    )

    real = a_change(recorded.agent, ines, LOOSE)

    assert [change.source for change in labels.standing(fresh(real)).changes] == ["the installed code"]
    with pytest.raises(problems.Invalid, match="second person"):
        activate(real, ines)


def test_a_release_that_answered_before_may_return_as_it_is(agent, ines, mara):
    first = agent.active_release
    activate(a_change(agent, ines, STRICT), ines)

    browser = Client()
    browser.force_login(a_user(Role.OPERATOR))
    page = browser.get(first.get_absolute_url()).content.decode()
    assert "It was active before, so it may return as it is." in page
    assert "Waits for a second person" not in page and "Accept the label changes" not in page
    activate(first, ines)

    agent.refresh_from_db()
    assert agent.active_release == first


# Who reviews


def test_the_author_is_no_second_person_neither_through_a_token(agent, ines, api_token):
    release = a_change(agent, ines)
    by_token = a_change(agent, api_token(ines).actor(), version="2.1")

    for who in (ines, api_token(ines).actor()):
        with pytest.raises(problems.Forbidden, match="You made this release"):
            accept(release, who)
        with pytest.raises(problems.Forbidden, match="You made this release"):
            accept(by_token, who)
    assert not LabelReview.objects.exists()


@pytest.fixture
def api_token():
    from datetime import timedelta

    from console import tokens

    def make(by):
        scopes = ["labels.review", "releases.create", "releases.read"]
        return tokens.create(by=by, name="nightly", scopes=scopes, expires_in=timedelta(days=1))[0]

    return make


@pytest.mark.parametrize("who", [Role.SUPPORT, Role.AUDITOR, ""])
def test_who_may_not_review_is_refused(agent, ines, who):
    release = a_change(agent, ines)

    with pytest.raises(problems.Forbidden):
        accept(release, an_actor(who))
    with pytest.raises(problems.Forbidden):
        accept(release, an_actor(Role.OPERATOR, agent="another-agent"))
    with pytest.raises(problems.Forbidden, match="Only a person"):
        accept(release, system("anything"))


def test_a_right_that_was_taken_away_does_not_count_any_more(agent, ines):
    person = a_user(Role.OPERATOR)
    release = a_change(agent, ines)
    opened = person.actor()
    accept(release, opened)
    RoleGrant.objects.filter(user=person).delete()

    with pytest.raises(problems.Invalid, match="may not do so any more"):
        activate(release, ines)
    accept(release, an_actor(Role.ADMIN))
    activate(release, ines)


def test_a_right_taken_away_between_opening_and_clicking_reviews_nothing(agent, ines):
    person, release = a_user(Role.OPERATOR), a_change(agent, ines)
    browser = Client()
    browser.force_login(person)
    page = browser.get(release.get_absolute_url()).content.decode()
    assert digest(release) in page
    RoleGrant.objects.filter(user=person).delete()

    answer = browser.post(
        reverse("releases:label-review", args=[release.pk]),
        {"digest": digest(release), "verdict": "accept", "reason": "Checked."},
    )

    assert answer.status_code == 403
    assert not LabelReview.objects.exists()


def test_a_review_needs_a_reason_and_something_to_review(agent, ines, mara):
    release, same = a_change(agent, ines), a_change(agent, ines, PAY, version="2.1")

    with pytest.raises(problems.Invalid, match="Say why"):
        accept(release, mara, reason="  ")
    with pytest.raises(problems.Invalid, match="no label in a way"):
        labels.review(same.pk, ACCEPT, digest="", by=mara, reason="Checked.")


def test_the_product_vouches_only_for_itself(agent, ines, mara):
    release = a_change(agent, ines)

    for person in (ines, mara):
        with pytest.raises(problems.Forbidden):
            labels.vouch(release, by=person, reason="Because.")
    labels.vouch(release, by=system("replay"), reason="Recorded.")

    activate(release, ines)
    assert AuditEntry.objects.get(action="labels.accept").actor_kind == "system"


# What a review is bound to


def test_a_rejection_stands(agent, ines, mara):
    release = a_change(agent, ines)
    labels.review(release.pk, REJECT, digest=digest(release), by=mara, reason="It pays.")

    with pytest.raises(problems.Invalid, match="has rejected how it changes what the gate is told of pay"):
        activate(release, ines)
    with pytest.raises(problems.Conflict, match=f"{mara.label} rejected"):
        accept(release, an_actor(Role.ADMIN))


def test_the_same_word_again_changes_nothing(agent, ines, mara):
    release = a_change(agent, ines)

    assert accept(release, mara) == accept(release, mara)
    assert AuditEntry.objects.filter(action="labels.accept").count() == 1


def test_a_review_is_of_the_changes_as_they_were_read(agent, ines, mara):
    release = a_change(agent, ines)
    read = digest(release)
    activate(a_change(agent, ines, STRICT, version="1.1"), ines)  # now it loosens more than it did

    with pytest.raises(problems.Conflict, match="others by now"):
        accept(release, mara, digest=read)


def test_a_review_does_not_outlive_the_labels_it_was_given_against(agent, ines, mara):
    release = a_change(agent, ines)
    accept(release, mara)
    activate(a_change(agent, ines, STRICT, version="1.1"), ines)

    with pytest.raises(problems.Invalid, match="second person"):
        activate(release, ines)


def test_a_review_of_one_release_is_none_of_another(agent, ines, mara):
    accept(a_change(agent, ines), mara)

    with pytest.raises(problems.Invalid, match="second person"):
        activate(a_change(agent, ines, version="2.1", instructions="Something else."), ines)


def sql(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def test_content_edited_in_the_database_voids_the_review(agent, ines, mara):
    release = a_change(agent, ines, {**PAY, "timeout_s": 60})
    accept(release, mara)
    content = {**release.content, "tools": [ToolManifest.model_validate(LOOSE).model_dump(mode="json")]}
    sql("UPDATE releases_release SET content = %s WHERE id = %s", json.dumps(content), release.pk)

    with pytest.raises(problems.Invalid, match="not what it was made with"):
        activate(release, ines)

    forged = bundles.digest(bundles.Bundle.model_validate(content))
    sql("UPDATE releases_release SET digest = %s WHERE id = %s", forged, release.pk)
    with pytest.raises(problems.Invalid, match="not what it was made with"):
        activate(release, ines)


def test_a_review_of_a_release_from_before_seals_is_of_its_content(agent, ines, mara):
    release = a_change(agent, ines)
    sql("UPDATE releases_release SET declared = '{}', declared_seal = '' WHERE id = %s", release.pk)
    accept(release, mara)
    content = {**release.content, "instructions": "Pay whoever asks."}
    edited = bundles.digest(bundles.Bundle.model_validate(content))
    sql("UPDATE releases_release SET content = %s, digest = %s WHERE id = %s", json.dumps(content), edited, release.pk)

    with pytest.raises(problems.Invalid, match="second person"):
        activate(release, ines)


def test_the_accepted_labels_edited_in_the_database_make_no_change_smaller(ines):
    release = a_change(an_agent("mail"), ines, LOOSE)
    loose = labels.labelling.labels(ToolManifest.model_validate(LOOSE))
    sql("UPDATE releases_release SET declared = %s WHERE id = %s", json.dumps({"pay": loose}), release.pk)

    with pytest.raises(problems.Invalid, match="not what it was made with"):
        activate(release, ines)
    sql("UPDATE releases_release SET declared_seal = '' WHERE id = %s", release.pk)
    with pytest.raises(problems.Invalid, match="not what it was made with"):
        activate(release, ines)
    sql("UPDATE releases_release SET declared = '{}' WHERE id = %s", release.pk)
    with pytest.raises(problems.Invalid, match="second person"):
        activate(release, ines)


def test_the_active_release_edited_in_the_database_is_no_baseline(agent, ines):
    release = a_change(agent, ines)
    active = agent.active_release
    content = {**active.content, "tools": [ToolManifest.model_validate(LOOSE).model_dump(mode="json")]}
    sql("UPDATE releases_release SET content = %s WHERE id = %s", json.dumps(content), active.pk)

    with pytest.raises(problems.Invalid, match="second person"):
        activate(release, ines)


@pytest.mark.parametrize(
    "edit", ["digest = %s", "verdict = 'accept', by_label = %s", "by_id = %s"], ids=["digest", "verdict", "reviewer"]
)
def test_a_review_edited_in_the_database_counts_for_nothing(agent, ines, mara, edit):
    release = a_change(agent, ines)
    other = a_change(agent, ines, {**PAY, "timeout_s": 60}, version="2.1")
    moved = "digest" in edit
    done = labels.review(
        (other if moved else release).pk, ACCEPT if moved else REJECT,
        digest=digest(other if moved else release), by=mara, reason="Checked.",
    )  # fmt: skip
    to = digest(release) if moved else str(a_user(Role.ADMIN).pk)
    sql(f"UPDATE releases_labelreview SET {edit}, release_id = %s WHERE id = %s", to, release.pk, done.pk)

    with pytest.raises(problems.Invalid, match="A second person has to review that first"):
        activate(release, ines)
    accept(release, an_actor(Role.ADMIN))  # and it does not stand in the way of an honest one
    activate(release, ines)


def test_a_review_written_in_the_database_counts_for_nothing(agent, ines, mara):
    release = a_change(agent, ines)
    LabelReview.objects.create(
        release=release, digest=digest(release), verdict=ACCEPT, changes=[], reason="Checked.", by_kind="user",
        by_id=mara.id, by_label=mara.label, seal="0" * 64,
    )  # fmt: skip

    with pytest.raises(problems.Invalid, match="second person"):
        activate(release, ines)


# Every door


def test_the_page_refuses_and_says_why(agent, ines):
    release = a_change(agent, ines)
    browser = Client()
    browser.force_login(a_user(Role.OPERATOR))

    answer = browser.post(reverse("releases:release-activate", args=[release.pk]), {"reason": "Better."})

    assert answer.status_code == 422
    assert "A second person has to review that first" in answer.content.decode()
    agent.refresh_from_db()
    assert agent.active_release_id != release.pk


def test_the_command_refuses_and_keeps_nothing(agent, tmp_path):
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(a_bundle("2.0", tools=[LOOSE])))

    with pytest.raises(CommandError, match="second person"):
        call_command("release_create", "shop", file, email=a_user(Role.ADMIN).email, activate="Better.")

    assert not Release.objects.filter(version="2.0").exists()
    call_command("release_create", "shop", file, email=a_user(Role.ADMIN).email)
    assert not Activation.objects.exists()


def test_even_the_product_itself_cannot_skip_it(agent, ines):
    with pytest.raises(problems.Invalid, match="second person"):
        activate(a_change(agent, ines), system("bootstrap"))


def test_the_demo_data_has_the_labels_of_the_code_or_is_refused(monkeypatch):
    from runtime import tools
    from runtime.shop import releasing

    with pytest.raises(problems.Invalid, match="second person"), transaction.atomic():
        releasing.establish()  # the code here declares `pay` alone
    monkeypatch.setattr(labels, "_installed", [tools.declared])

    assert releasing.establish().active_release.version == releasing.SECOND


def test_nothing_else_makes_a_release_active():
    """Rows of measurements stand aside: nobody's release, and gone when they end."""
    from django.conf import settings

    aside = {"runtime/bench/loads.py", "runtime/chaos/loads.py"}
    found = {
        str(path.relative_to(settings.BASE_DIR))
        for app in ("console", "approvals", "releases", "runtime", "telemetry")
        for path in (settings.BASE_DIR / app).rglob("*.py")
        if any(".active_release = " in line for line in path.read_text().splitlines())
    }

    assert found - aside == {"releases/releases.py"}


def test_all_three_of_the_rule_of_two_need_somebody_who_is_asked(ines):
    tools = [
        a_tool("read_mail", effect="read", retry="read"),
        a_tool("look", effect="read", retry="read", scope="a"),
        PAY,
    ]
    agent = a_release(an_agent("mail"), tools=tools).agent

    with pytest.raises(problems.Invalid, match="nobody would be asked"):
        activate(a_change(agent, ines, *tools, provenance="log"), ines)
    activate(a_change(agent, ines, *tools, provenance="log", force_human_review=True, version="2.1"), ines)
    activate(a_change(agent, ines, *tools, version="2.2"), ines)


# At once


@pytest.mark.django_db(transaction=True)
def test_of_two_reviewers_at_the_same_instant_one_counts():
    agent = a_release(an_agent("shop"), version="1.0", tools=[PAY]).agent
    release = a_change(agent, an_actor(Role.OPERATOR))
    read, gate, answers = digest(release), threading.Barrier(2), []

    def say(verdict, by):
        try:
            connection.ensure_connection()
            gate.wait(timeout=PATIENCE_S)
            answers.append(labels.review(release.pk, verdict, digest=read, by=by, reason="At once.").verdict)
        except problems.Conflict:
            answers.append("conflict")
        except Exception as wrong:
            answers.append(wrong)
        finally:
            close_old_connections()
            connection.close()

    threads = [threading.Thread(target=say, args=[word, an_actor(Role.ADMIN)]) for word in (ACCEPT, REJECT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)

    assert sorted(map(str, answers)) in (["accept", "conflict"], ["conflict", "reject"]), answers
    assert LabelReview.objects.count() == 1
    assert AuditEntry.objects.filter(action__startswith="labels.").count() == 1


def test_the_digest_of_a_release_is_that_of_what_is_stored(agent, ines):
    release = fresh(a_change(agent, ines))

    assert bundles.hashlib.sha256(canonical(release.content).encode()).hexdigest() == release.digest


# Programs


def test_a_program_reads_and_reviews_label_changes(agent, ines):
    release = a_change(agent, ines)
    program = Program(role=Role.MANAGER)
    address = f"/releases/{release.public_id}/labels"

    told = program.get(address).json()
    assert (told["is_accepted"], told["review"], told["digest"]) == (False, None, digest(release))
    assert [(one["tool"], one["source"], one["direction"]) for one in told["changes"]] == [
        ("pay", "release 1.0", "looser")
    ]
    assert told["changes"][0]["differences"] == [
        {"field": "effect", "direction": "looser", "before": "write", "after": "read"}
    ]
    body = {"verdict": "accept", "digest": told["digest"], "reason": "Checked."}
    assert program.post(f"{address}/review", {**body, "digest": "0"}).status_code == 409
    assert program.post(f"{address}/review", {**body, "reason": ""}).status_code == 422

    done = program.post(f"{address}/review", body)

    assert (done.status_code, done.json()["verdict"]) == (200, "accept")
    assert program.get(address).json()["is_accepted"]
    assert program.get(address).json()["why_not"] == ""
    activate(release, ines)


def test_a_program_of_the_author_or_of_another_agent_reviews_nothing(agent):
    author = a_user(Role.OPERATOR)
    release = a_change(agent, author.actor())
    address = f"/releases/{release.public_id}/labels/review"
    body = {"verdict": "accept", "digest": digest(release), "reason": "Checked."}

    assert Program(owner=author).post(address, body).status_code == 403
    assert Program("releases.read").post(address, body).status_code == 403
    assert Program("labels.review", agent="another-agent").post(address, body).status_code == 404
    assert not LabelReview.objects.exists()
