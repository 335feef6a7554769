from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from console.models import AuditEntry, User
from console.roles import Role
from tests.builders import PASSWORD, a_user, an_agent

pytestmark = pytest.mark.django_db
NEW = {"name": "Mara Lind", "email": "mara@example.test", "role": "support", "agent": "", "reason": "She starts today."}


@pytest.fixture
def ada():
    return a_user(Role.ADMIN, name="Ada Okafor")


@pytest.fixture
def browser(ada, client):
    client.force_login(ada)
    return client


def post(browser: Client, name: str, *args: object, **fields: str):
    return browser.post(reverse(f"console:{name}", args=args), {"reason": "A reason.", **fields})


def secret_in(answer) -> str:
    return re.search(r"data-secret>([^<]+)<", answer.content.decode())[1]


def test_somebody_who_is_added_gets_in_with_the_password_that_is_shown_once(browser):
    answer = browser.post("/settings/people/add/", NEW)

    password = secret_in(answer)
    assert Client().login(email="mara@example.test", password=password)
    assert [grant.role for grant in User.objects.get(email="mara@example.test").grants.all()] == [Role.SUPPORT]
    assert "no-store" in answer["Cache-Control"]
    assert password not in browser.get("/settings/people/").content.decode()
    assert set(AuditEntry.objects.values_list("action", "reason")) == {
        ("user.create", "She starts today."), ("role.grant", "She starts today."),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"email": "nobody"}, "is no e-mail address"),
        ({"email": "ADA@example.test"}, "Somebody has the address"),
        ({"agent": "nowhere"}, "Select a valid choice"),
        ({"reason": " "}, "This field is required"),
        ({"role": "king"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_used_is_told_beside_its_field_and_adds_nobody(client, wrong, says):
    client.force_login(a_user(Role.ADMIN, email="ada@example.test"))

    answer = client.post("/settings/people/add/", {**NEW, **wrong})

    page = answer.content.decode()
    assert answer.status_code == 422
    assert says in page
    assert 'value="Mara Lind"' in page
    assert User.objects.count() == 1
    assert not AuditEntry.objects.exists()


def test_a_person_is_given_roles_and_loses_them(browser):
    mara = a_user(Role.SUPPORT, name="Mara Lind")
    an_agent("refunds")

    answer = browser.post(
        reverse("console:role-grant", args=[mara.pk]), {"role": "operator", "agent": "refunds", "reason": "Stands in."}
    )
    assert answer.status_code == 302
    page = browser.get(answer.url).content.decode()
    assert "Mara Lind is now operator on refunds." in page
    post(browser, "role-take-away", mara.grants.get(role=Role.SUPPORT).pk)
    assert [(grant.role, grant.agent) for grant in mara.grants.all()] == [("operator", "refunds")]


def test_the_way_out_and_back(browser):
    mara = a_user(Role.OPERATOR, name="Mara Lind")
    page = reverse("console:person-detail", args=[mara.pk])

    post(browser, "person-deactivate", mara.pk)
    assert "Deactivated" in browser.get(page).content.decode()
    assert not Client().login(email=mara.email, password=PASSWORD)
    password = secret_in(post(browser, "person-reactivate", mara.pk))
    assert Client().login(email=mara.email, password=password)
    renewed = secret_in(post(browser, "person-password", mara.pk))
    assert renewed != password
    assert Client().login(email=mara.email, password=renewed)
    assert renewed not in browser.get(page).content.decode()


def test_a_refusal_says_why_and_changes_nothing(browser, ada):
    assert post(browser, "person-deactivate", ada.pk).status_code == 403
    mara = a_user(Role.SUPPORT)
    answer = post(browser, "person-deactivate", mara.pk, reason=" ")
    assert answer.status_code == 422
    assert "Say why" in answer.content.decode()
    assert User.objects.filter(is_active=True).count() == 2


def test_one_finds_people_by_name_and_address(browser):
    for name in ("Mara Lind", "Tomas Berg"):
        a_user(Role.SUPPORT, name=name)

    page = browser.get("/settings/people/?q=lind").content.decode()

    assert "Mara Lind" in page
    assert "Tomas Berg" not in page
    assert "Nobody’s name or address contains “&lt;b&gt;”." in browser.get("/settings/people/?q=<b>").content.decode()


def test_an_auditor_and_an_admin_of_one_agent_read_only(client):
    mara = a_user(Role.SUPPORT, name="Mara Lind")
    for person in (a_user(Role.AUDITOR), a_user(Role.ADMIN, agent="refunds")):
        client.force_login(person)
        for address in ("/settings/people/", reverse("console:person-detail", args=[mara.pk])):
            page = client.get(address).content.decode()
            assert "Mara Lind" in page
            assert "Add person" not in page
            assert "Deactivate" not in page
            assert "Take away" not in page
        assert post(client, "person-deactivate", mara.pk).status_code == 403


@pytest.mark.parametrize("count", [1, 12])
def test_the_number_of_queries_does_not_grow_with_the_people(browser, count, django_assert_max_num_queries):
    for _ in range(count):
        a_user(Role.SUPPORT)
    mara = User.objects.latest("created_at")
    browser.get("/settings/people/")

    with django_assert_max_num_queries(8):
        browser.get("/settings/people/")
    with django_assert_max_num_queries(8):
        browser.get(reverse("console:person-detail", args=[mara.pk]))
