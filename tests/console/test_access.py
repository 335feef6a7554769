from __future__ import annotations

import pytest
from django.http import Http404, HttpResponse
from django.test import Client, RequestFactory
from django.urls import path

from console import access, ids, problems, roles, urls
from console.actors import ANONYMOUS
from console.models import AuditEntry
from console.roles import Role
from console.states import IllegalMove
from tests.builders import a_user

pytestmark = pytest.mark.django_db

ADDRESSES = {
    "/settings/": set(Role),
    "/settings/tokens/": set(Role),
    "/settings/people/": {Role.ADMIN, Role.AUDITOR},
    "/settings/components/": {Role.ADMIN},
    "/palette/": set(Role),
    "/queues/": {Role.ADMIN},
    "/audit/": {Role.OPERATOR, Role.MANAGER, Role.ADMIN, Role.AUDITOR},
}


def signed_in(user, **options) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("role", Role)
def test_each_role_opens_what_is_its_own(role, address):
    answer = signed_in(a_user(role)).get(address)

    assert answer.status_code == (200 if role in ADDRESSES[address] else 403)


@pytest.mark.parametrize("address", ADDRESSES)
def test_strangers_are_sent_to_sign_in_and_back(client, address):
    answer = client.get(address)

    assert answer.status_code == 302
    assert answer.url == f"/accounts/login/?next={address}"


def test_a_region_of_a_signed_out_page_is_not_filled_with_the_sign_in_page(client):
    answer = client.get("/audit/", headers={"HX-Request": "true"})

    assert answer.status_code == 401
    assert b'id="problem-part"' in answer.content


def test_a_refusal_names_the_roles_that_may():
    answer = signed_in(a_user(Role.SUPPORT)).get("/audit/")

    assert "Your role may not read the audit log. Roles that may: admin, auditor" in answer.content.decode()


def test_somebody_without_a_role_gets_a_sentence_not_a_page():
    answer = signed_in(a_user(role="")).get("/")

    assert answer.status_code == 403
    assert "You have no role yet" in answer.content.decode()


@pytest.mark.parametrize(
    ("role", "home"),
    [(Role.ADMIN, "/runs/"), (Role.OPERATOR, "/runs/"), (Role.SUPPORT, "/approvals/"), (Role.AUDITOR, "/audit/")],
)
def test_home_is_where_the_role_works(role, home):
    assert signed_in(a_user(role)).get("/").url == home


def test_an_inactive_person_has_no_rights():
    user = a_user(Role.ADMIN)
    user.is_active = False

    assert user.actor().rights == frozenset()


def test_a_role_on_one_agent_holds_there_only():
    actor = a_user(Role.OPERATOR, agent="shop").actor()

    assert actor.may("audit.read", agent="shop")
    assert not actor.may("audit.read", agent="bank")
    assert actor.agents("audit.read") == frozenset({"shop"})
    assert a_user(Role.OPERATOR).actor().agents("audit.read") is None


def test_a_permission_nobody_declared_is_held_by_nobody():
    assert not a_user(Role.ADMIN).actor().may("nothing.declared")
    assert not ANONYMOUS.may("audit.read")


def test_what_is_not_there_and_what_is_not_open_look_the_same():
    client = signed_in(a_user(Role.ADMIN))

    unknown = client.get("/no/such/page/")
    missing = client.get("/audit/999999/")

    assert unknown.status_code == missing.status_code == 404
    assert "There is nothing at this address, or it is not open to you." in unknown.content.decode()
    assert "There is nothing at this address, or it is not open to you." in missing.content.decode()


def test_a_foreign_token_is_a_404():
    key = ids.public("tok", ids.new())

    assert signed_in(a_user(Role.ADMIN)).post(f"/settings/tokens/{key}/revoke/").status_code == 404


def test_a_form_without_its_token_changes_nothing():
    client = signed_in(a_user(Role.AUDITOR), enforce_csrf_checks=True)

    answer = client.post("/audit/verify/")

    assert answer.status_code == 403
    assert "nothing was changed" in answer.content.decode()


@pytest.mark.parametrize("address", ["/audit/verify/", "/settings/theme/"])
def test_a_link_cannot_act(address):
    assert signed_in(a_user(Role.ADMIN)).get(address).status_code == 405


def test_the_log_is_read_only():
    assert signed_in(a_user(Role.ADMIN)).post("/audit/").status_code == 405


# What verbs raise, as pages


def _raising(wrong: Exception):
    def view(request):
        raise wrong

    return path("raise/", view)


@pytest.mark.parametrize(
    ("wrong", "status", "sentence"),
    [
        (problems.Conflict("Sam approved this already."), 409, "Sam approved this already."),
        (problems.Invalid("The amount is too high."), 422, "The amount is too high."),
        (problems.TooMany("Slow down.", retry_after=7), 429, "Slow down."),
        (problems.Problem("No such thing."), 400, "No such thing."),
        (IllegalMove("Cannot go from done to waiting."), 409, "Cannot go from done to waiting."),
        (AuditEntry.DoesNotExist(), 404, "There is nothing at this address"),
        (Http404(), 404, "There is nothing at this address"),
    ],
)
def test_a_refusal_becomes_a_page_with_its_status(settings, wrong, status, sentence):
    settings.ROOT_URLCONF = type(
        "Urls", (), {"urlpatterns": [_raising(wrong), *urls.urlpatterns], "handler404": urls.handler404}
    )
    client = signed_in(a_user(Role.ADMIN))

    answer = client.get("/raise/")

    assert answer.status_code == status
    assert sentence in answer.content.decode()
    assert 'id="problem-part"' in answer.content.decode()
    assert "reference" in answer.content.decode()
    assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)


def test_an_unexpected_failure_says_nothing_of_its_cause(settings):
    broken = _raising(RuntimeError("password=hunter2222"))
    settings.ROOT_URLCONF = type(
        "Urls", (), {"urlpatterns": [broken, *urls.urlpatterns], "handler500": urls.handler500}
    )
    client = signed_in(a_user(Role.ADMIN), raise_request_exception=False)

    answer = client.get("/raise/")

    assert answer.status_code == 500
    assert "hunter2222" not in answer.content.decode()
    assert "This did not work" in answer.content.decode()


def test_every_view_of_ours_names_its_permission():
    open_to_all = {"theme"}

    for pattern in urls.pages:
        if pattern.name not in open_to_all:
            assert hasattr(pattern.callback, "permission"), pattern.name


def test_a_declared_permission_guards_a_view():
    roles.declare("lamps.light", {Role.OPERATOR}, "light lamps")

    @access.requires("lamps.light")
    def light(request):
        return HttpResponse("lit")

    request = RequestFactory().get("/")
    request.actor = a_user(Role.OPERATOR).actor()
    assert light(request).content == b"lit"
    request.actor = a_user(Role.SUPPORT).actor()
    with pytest.raises(problems.Forbidden, match="light lamps"):
        light(request)


def test_pages_are_kept_out_of_caches(client):
    assert "no-store" in client.get("/accounts/login/").headers["Cache-Control"]
    assert "no-store" in signed_in(a_user(Role.ADMIN)).get("/audit/").headers["Cache-Control"]


def test_nobody_signs_up(client):
    answer = client.post("/accounts/signup/", {"email": "eve@example.test", "password1": "correct horse battery"})

    assert "Accounts are by invitation" in answer.content.decode()


def test_the_way_back_stays_on_this_site(client):
    for elsewhere in ("https://evil.example/", "//evil.example", "javascript:alert(1)"):
        assert client.post("/settings/theme/", {"theme": "dark", "next": elsewhere}).url == "/"
    assert client.post("/settings/theme/", {"theme": "dark", "next": "/audit/?actor=a"}).url == "/audit/?actor=a"
