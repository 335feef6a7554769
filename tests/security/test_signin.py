"""Guessing passwords, sessions, and what the sign-in gives away (D35, D36)."""

from __future__ import annotations

import pytest
from django.contrib.auth import hashers
from django.core.cache import cache
from django.test import Client

from tests.builders import PASSWORD, a_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nobody_tried_before() -> None:
    cache.clear()  # the package's own limit per source, which counts every attempt


LOGIN = "/accounts/login/"
TOO_MANY = "Too many failed login attempts"


def sign_in(user_or_email, password=PASSWORD, *, source="198.51.100.7", client=None, **extra):
    email = getattr(user_or_email, "email", user_or_email)
    client = client or Client()
    return client.post(LOGIN, {"login": email, "password": password}, REMOTE_ADDR=source, **extra)


def test_guesses_from_one_source_are_refused_also_the_right_one():
    """D36: after five wrong ones this source may not try this account any more."""
    victim = a_user()
    for number in range(5):
        assert TOO_MANY not in sign_in(victim, f"guess {number}").content.decode()

    answer = sign_in(victim)

    assert answer.status_code == 200
    assert TOO_MANY in answer.content.decode()


def test_twenty_guesses_from_one_source_do_not_lock_the_owner_out():
    """D36: the count of the source is not the owner's."""
    victim = a_user()
    for number in range(20):
        sign_in(victim, f"guess {number}")

    assert sign_in(victim, source="203.0.113.9").status_code == 302


def test_another_port_in_the_host_header_is_no_fresh_count():
    """D36: nothing that the guesser writes into the request resets the count."""
    victim = a_user()
    for number in range(5):
        sign_in(
            victim, f"guess {number}", HTTP_HOST=f"localhost:{9000 + number}", HTTP_X_FORWARDED_FOR=f"10.0.0.{number}"
        )

    assert TOO_MANY in sign_in(victim, HTTP_HOST="localhost:9999", HTTP_X_FORWARDED_FOR="10.0.0.99").content.decode()


def test_guesses_from_many_sources_are_refused_and_the_owners_browser_is_let_in():
    """D36: the account's count is used up by strangers; a browser the owner has used before has its own."""
    victim = a_user()
    home = Client()
    assert sign_in(victim, client=home, source="203.0.113.9").status_code == 302
    home.post("/accounts/logout/")
    for number in range(20):
        sign_in(victim, f"guess {number}", source=f"198.51.100.{number}")

    stranger = sign_in(victim, source="198.51.100.200")
    owner = sign_in(victim, client=home, source="203.0.113.9")

    assert TOO_MANY in stranger.content.decode()
    assert owner.status_code == 302


def test_a_known_browser_may_not_guess_for_ever_either():
    """D36: a stolen cookie buys a count of its own, not a free pass; and none for other accounts."""
    victim, other = a_user(), a_user()
    home = Client()
    sign_in(victim, client=home)
    home.post("/accounts/logout/")
    for number in range(10):
        sign_in(victim, f"guess {number}", client=home)

    assert TOO_MANY in sign_in(victim, client=home).content.decode()
    for number in range(5):
        sign_in(other, f"guess {number}", client=home, source="192.0.2.4")
    assert TOO_MANY in sign_in(other, client=home, source="192.0.2.4").content.decode()


@pytest.mark.parametrize("cookie", ["", "x", "a:b:c", "é"])
def test_a_forged_device_cookie_is_no_device(cookie):
    """D36: the cookie is signed."""
    victim = a_user()
    client = Client()
    client.cookies["known_device"] = cookie
    for number in range(5):
        sign_in(victim, f"guess {number}", client=client)

    assert TOO_MANY in sign_in(victim, client=client).content.decode()


def test_signing_in_right_uses_up_nothing():
    """D36: thirty colleagues behind one address."""
    user = a_user()

    assert {sign_in(user).status_code for _ in range(15)} == {302}


def test_unknown_and_known_accounts_are_refused_with_the_same_words_and_work(monkeypatch):
    """D36: neither the answer nor the hashing tells whether the account exists."""
    user = a_user()
    hashed: list[str] = []
    encode = hashers.get_hasher().__class__.encode
    monkeypatch.setattr(
        hashers.get_hasher().__class__, "encode", lambda self, *args: hashed.append("x") or encode(self, *args)
    )

    known, work_known = sign_in(user, "wrong"), len(hashed)
    hashed.clear()
    unknown, work_unknown = sign_in("nobody@example.test", "wrong"), len(hashed)

    def plain(answer, email):
        text = answer.content.decode().replace(email, "")
        return text[text.index('role="alert"') : text.index("</form>")].split('name="csrfmiddlewaretoken"')[0]

    assert plain(known, user.email) == plain(unknown, "nobody@example.test")
    assert "do not belong together" in plain(known, user.email)
    assert work_known == work_unknown == 1


def test_the_session_rotates_at_sign_in_and_ends_at_sign_out():
    """D35: a session key that somebody planted is not the one that is signed in."""
    user, client = a_user(), Client()
    client.get(LOGIN)
    session = client.session
    session["planted"] = True
    session.save()
    client.cookies["sessionid"] = planted = session.session_key

    sign_in(user, client=client)
    after = client.cookies["sessionid"].value
    assert after != planted
    assert Client(headers={"cookie": f"sessionid={planted}"}).get("/settings/").status_code == 302

    client.post("/accounts/logout/")
    assert Client(headers={"cookie": f"sessionid={after}"}).get("/settings/").status_code == 302


def test_a_changed_password_ends_other_sessions():
    """D35: whoever holds an old session is out."""
    user, here, elsewhere = a_user(), Client(), Client()
    sign_in(user, client=here)
    sign_in(user, client=elsewhere)
    fresh = "another battery staple horse"

    answer = here.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": fresh, "password2": fresh})

    assert answer.status_code == 302
    assert elsewhere.get("/settings/").status_code == 302
    assert here.get("/settings/").status_code == 200


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(settings):
    """D35: HttpOnly, SameSite, and Secure wherever https is on."""
    settings.SESSION_COOKIE_SECURE = True
    client = Client()
    sign_in(a_user(), client=client)

    for name in ("sessionid", "known_device"):
        cookie = client.cookies[name]
        assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Lax", True), name
    assert client.cookies["sessionid"]["max-age"] == 12 * 3600


@pytest.mark.parametrize("target", ["https://evil.test/", "//evil.test", "/\\evil.test", "javascript:alert(1)"])
def test_sign_in_leads_nowhere_else(target):
    """An open redirect lends our address to a phisher."""
    answer = Client().post(LOGIN, {"login": a_user().email, "password": PASSWORD, "next": target})

    assert (answer.status_code, answer.url) == (302, "/")


@pytest.mark.parametrize("address", ["password/reset/", "email/", "confirm-email/", "reauthenticate/", "password/set/"])
def test_pages_of_the_sign_in_package_that_nobody_needs_are_not_there(address):
    """Each was a way to send mail to strangers or to change an address without the audit log."""
    assert Client().get(f"/accounts/{address}").status_code == 404
