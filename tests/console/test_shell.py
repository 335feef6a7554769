from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.utils import timezone

from console import actors, audit, shell
from console.models import ApiToken, AuditEntry
from console.roles import Role
from tests.builders import a_user

pytestmark = pytest.mark.django_db


def signed_in(role: Role = Role.ADMIN) -> Client:
    client = Client()
    client.force_login(a_user(role))
    return client


def render(source: str, **values: object) -> str:
    return Template(source).render(Context({"request": RequestFactory().get("/"), **values}))


@pytest.fixture
def known(monkeypatch):
    """A shell of our own, so that nothing registered here is left behind."""
    fresh = shell._Registry()
    monkeypatch.setattr(shell, "_known", fresh)
    return fresh


def a_request(path: str = "/", role: Role = Role.ADMIN):
    request = RequestFactory().get(path)
    request.actor = a_user(role).actor()
    return request


def an_item(key: str, url_name: str = "console:audit-list", **fields) -> shell.NavItem:
    return shell.NavItem(key=key, label=key.title(), url_name=url_name, icon="list", **fields)


# Navigation


def test_people_see_what_they_may_open(known):
    shell.register("Control", an_item("audit", permission="audit.read"))
    shell.register("Work", an_item("tokens", "console:token-list"))

    def seen(role):
        return [link.item.key for _, links in shell.navigation(a_request(role=role)) for link in links]

    assert seen(Role.AUDITOR) == ["tokens", "audit"]
    assert seen(Role.SUPPORT) == ["tokens"]


def test_the_longest_matching_path_is_current(known):
    shell.register("Work", an_item("settings", "console:appearance"))
    shell.register("Work", an_item("tokens", "console:token-list"))

    groups = shell.navigation(a_request("/settings/tokens/"))

    assert [link.item.key for _, links in groups for link in links if link.is_current] == ["tokens"]


def test_registering_a_key_again_replaces_it(known):
    shell.register("Work", an_item("audit"))
    shell.register("Work", an_item("audit", order=1))

    assert [item.order for item in known.items["Work"]] == [1]


def test_a_banner_that_fails_is_left_out_and_the_page_opens(known, monkeypatch, caplog):
    def broken(*args):
        raise RuntimeError("the counter is away")

    monkeypatch.setattr("console.shell.resolve", broken)
    shell.strip("console:audit-list", "switches")

    assert [html for _, _, html in shell.strips(a_request())] == [""]
    assert "was left out" in caplog.text


def test_a_banner_refused_to_this_person_is_left_out_quietly(known, caplog):
    shell.strip("console:audit-list", "switches")

    assert [html for _, _, html in shell.strips(a_request(role=Role.SUPPORT))] == [""]
    assert "was left out" not in caplog.text


def test_a_page_never_asks_for_a_banner_that_this_person_may_not_see(known):
    shell.strip("console:audit-list", "switches", "audit.read")

    assert shell.strips(a_request(role=Role.SUPPORT)) == []
    assert [one.url_name for one, _, _ in shell.strips(a_request(role=Role.AUDITOR))] == ["console:audit-list"]


# The palette


def test_the_palette_finds_pages_and_what_apps_offer(known):
    shell.register("Control", an_item("audit", permission="audit.read"))
    shell.register_search(lambda actor, text: [shell.Found(f"Lamp {text}", "Lamp", "/lamps/")] if text else [])

    labels = [found.label for found in shell.find(a_user(Role.ADMIN).actor(), "au")]

    assert labels == ["Audit", "Lamp au"]
    assert "Audit" not in [found.label for found in shell.find(a_user(Role.SUPPORT).actor(), "au")]


def test_a_search_that_fails_costs_its_own_results_only(known):
    def broken(actor, text):
        raise RuntimeError("search is away")

    shell.register_search(broken)

    assert [found.label for found in shell.find(a_user().actor(), "token")] == ["API tokens"]


def test_the_palette_is_a_page_too():
    assert 'id="results"' in signed_in().get("/palette/?q=audit").content.decode()
    assert "Nothing found" in signed_in().get("/palette/?q=zzzz").content.decode()


# Pages


@pytest.mark.parametrize(
    "address", ["/audit/", "/settings/", "/settings/tokens/", "/settings/components/", "/accounts/login/"]
)
def test_a_page_keeps_the_strict_policy(address):
    client = Client() if "login" in address else signed_in()
    answer = client.get(address)
    html = answer.content.decode()

    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert " style=" not in html
    assert "<style" not in html
    assert "onclick" not in html
    assert not [part for part in html.split("<script")[1:] if not part.lstrip().startswith("src=")]


def test_each_icon_is_drawn_once_per_page():
    html = signed_in().get("/settings/components/").content.decode()

    assert html.count('<symbol id="i-check"') == 1
    assert html.count('href="#i-check"') > 3
    for name in set(html.split('href="#i-')[1:]):
        assert f'<symbol id="i-{name.partition(chr(34))[0]}"' in html


def test_a_fragment_carries_its_icons():
    assert "<path" in render('{% icon "check" %}')


def test_the_theme_is_in_the_first_paint():
    client = signed_in()
    client.post("/settings/theme/", {"theme": "dark"})

    assert '<html lang="en" data-theme="dark">' in client.get("/audit/").content.decode()
    client.post("/settings/theme/", {"theme": "system"})
    assert '<html lang="en">' in client.get("/audit/").content.decode()


def test_appearance_takes_known_choices_only():
    client = signed_in()

    assert client.post("/settings/", {"theme": "pink"}).status_code == 422
    client.post("/settings/", {"theme": "light", "keys": "off", "times": "utc"})
    html = client.get("/audit/").content.decode()

    assert 'data-theme="light"' in html
    assert 'data-keys="off" data-times="utc"' in html
    client.cookies["theme"] = '"><script>'
    assert "<script>" not in client.get("/audit/").content.decode()


def test_the_password_page_knows_its_place_and_keeps_its_hints_together():
    html = signed_in().get("/accounts/password/change/").content.decode()

    assert re.search(r'href="/accounts/password/change/" aria-current="page"', html)
    assert '<p class="hint"' not in html  # a list inside a paragraph would end it
    assert html.index('id="id_password1-hint"') < html.index("at least 12 characters") < html.index("id_password2")


def test_a_token_is_shown_once():
    client = signed_in()

    made = client.post("/settings/tokens/", {"name": "export", "days": "30", "scopes": ["audit.read"]})
    prefix = ApiToken.objects.get().prefix

    assert f"sth_{prefix}_" in made.content.decode()
    assert made.content.decode().count("data-secret") == 1
    assert "data-secret" not in client.get("/settings/tokens/").content.decode()


def test_a_token_without_scopes_is_refused_in_the_form():
    answer = signed_in().post("/settings/tokens/", {"name": "export", "days": "30"})

    assert "Choose at least one scope." in answer.content.decode()
    assert not ApiToken.objects.exists()


# The audit log as a page


class Thing:
    def __init__(self, label: str) -> None:
        self.label = label

    def audit_subject(self):
        return "order", "ord_1", self.label, "/orders/ord_1/"


def some_entries(count: int, **fields) -> None:
    for number in range(count):
        audit.record(actors.system("test"), "order.change", Thing(f"Order {number:03}"), **{"reason": "", **fields})


def test_the_log_pages_by_cursor():
    some_entries(120)
    client = signed_in(Role.AUDITOR)

    first = client.get("/audit/")
    older = client.get(f"/audit/?before={first.context['page'].older}")
    last = client.get(f"/audit/?before={older.context['page'].older}")
    back = client.get(f"/audit/?after={last.context['page'].newer}")

    seen = [entry.object_label for answer in (first, older, last) for entry in answer.context["page"].items]
    assert seen == [f"Order {number:03}" for number in reversed(range(120))]
    assert last.context["page"].older == ""
    assert first.context["page"].newer == ""
    assert [e.pk for e in back.context["page"].items] == [e.pk for e in older.context["page"].items]


def test_filters_are_in_the_address():
    some_entries(1)
    audit.record(a_user(name="Ada Okafor").actor(), "lamp.light", Thing("Lamp"), reason="dark")
    client = signed_in(Role.AUDITOR)

    def found(query: str) -> list[str]:
        return [entry.object_label for entry in client.get(f"/audit/?{query}").context["page"].items]

    assert found("actor=okafor") == ["Lamp"]
    assert found("action=lamp") == ["Lamp"]
    assert found("object=order") == ["Order 000"]
    assert found("kind=system") == ["Order 000"]
    assert found(f"from={timezone.now() + timedelta(days=2):%Y-%m-%d}") == []
    assert len(found(f"from={timezone.now():%Y-%m-%d}")) == 2


@pytest.mark.parametrize("query", ["from=soon", "before=abc", "after=x"])
def test_a_filter_that_cannot_be_read_says_so(query):
    assert signed_in(Role.AUDITOR).get(f"/audit/?{query}").status_code == 422


def test_hostile_text_is_shown_as_text():
    audit.record(
        actors.system("<b>x</b>"),
        "order.change",
        Thing("<script>alert(1)</script>"),
        reason="pay\u202eeve",
        changes={"<i>name</i>": ["<img src=x>", "a\nb"]},
    )
    client = signed_in(Role.AUDITOR)

    for address in ("/audit/", f"/audit/{AuditEntry.objects.get().pk}/"):
        html = client.get(address).content.decode()
        for raw in ("<b>x</b>", "<script>alert", "<i>name</i>", "<img"):
            assert raw not in html, (address, raw)
    assert "U+202E" in client.get(f"/audit/{AuditEntry.objects.get().pk}/").content.decode()


def test_verifying_is_told_in_words():
    some_entries(3)
    client = signed_in(Role.AUDITOR)

    assert "The chain is whole: 3 entries" in client.post("/audit/verify/", follow=True).content.decode()


def test_a_list_costs_few_queries(django_assert_max_num_queries):
    some_entries(60)
    client = signed_in(Role.AUDITOR)

    with django_assert_max_num_queries(12):
        client.get("/audit/")
