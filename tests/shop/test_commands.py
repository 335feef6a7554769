from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils.timezone import now

from console import audit, tokens
from console.models import ApiToken, AuditEntry, RoleGrant, User
from console.roles import Role
from releases import releases, switches
from releases.models import Activation, Agent, Release
from releases.states import Scope, SwitchEffect
from runtime import samples
from runtime.models import Run
from runtime.shop import accounts, releasing
from runtime.shop.models import Order, PolicyDocument
from runtime.states import RunStatus
from tests.patience import PATIENCE_S, until
from tests.runtime import harness
from tests.shop.conftest import whole_shop

PASSWORD = "a long enough password"


def run(name: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(name, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    class Found:
        steadyhand_data_dir = tmp_path

    monkeypatch.setattr("console.environment.load", lambda: Found)
    monkeypatch.setattr("runtime.shop.seed.build", whole_shop)  # the same rows, made once for all tests
    return tmp_path


@pytest.fixture
def demo(db: None, data_dir: Path) -> Path:
    run("demo_data", password=PASSWORD)
    return data_dir


# demo_data


def test_demo_data_makes_shop_accounts_agent_and_releases(demo: Path):
    agent = Agent.objects.get(slug="support")
    users = {user.email: user for user in User.objects.all()}

    assert Order.objects.count() == 9000
    assert PolicyDocument.objects.count() == 7
    assert {role for _, _, role, _ in accounts.ACCOUNTS} == set(Role)
    assert all(users[email].check_password(PASSWORD) for email, *_ in accounts.ACCOUNTS)
    assert users["mara@example.com"].actor().may("approvals.decide", agent="support")
    assert not users["samir@example.com"].actor().may("approvals.decide")
    assert sorted(Release.objects.values_list("version", flat=True)) == [releasing.FIRST, releasing.SECOND]
    assert agent.active_release is not None
    assert agent.active_release.version == releasing.SECOND
    assert Activation.objects.count() == 2


def test_demo_data_again_changes_nothing(demo: Path):
    def state() -> list[Any]:
        return [
            list(Release.objects.values_list("pk", "digest")),
            list(User.objects.order_by("pk").values_list("email", "password")),
            list(RoleGrant.objects.order_by("pk").values_list("pk", flat=True)),
            AuditEntry.objects.count(),
            Order.objects.count(),
            (demo / accounts.FILE).read_text(),
        ]

    before = state()
    run("demo_data")

    assert state() == before


def test_demo_data_leaves_a_rollback_alone(demo: Path):
    first = Release.objects.get(version=releasing.FIRST)
    releases.activate(first.pk, by=harness.DECIDER, reason="Roll back")

    run("demo_data")

    assert Agent.objects.get(slug="support").active_release == first


def test_a_stored_release_survives_a_change_of_the_tools(demo: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(releasing, "INSTRUCTIONS", "New words")

    assert releasing.establish().active_release == Release.objects.get(version=releasing.SECOND)


def test_the_two_releases_differ_in_what_people_compare(demo: Path):
    first, second = (Release.objects.get(version=version).bundle for version in (releasing.FIRST, releasing.SECOND))

    assert first.instructions != second.instructions
    assert (first.rules[0].when[0].value, second.rules[0].when[0].value) == (50, 100)
    assert set(second.toolset) - set(first.toolset) == {"list_orders", "save_draft", "read_ticket"}
    assert first.retrieval != second.retrieval


@pytest.mark.django_db
def test_the_password_is_random_made_once_and_kept_for_its_owner(data_dir: Path):
    told = run("demo_data")
    path = data_dir / accounts.FILE
    password = accounts.kept_password(data_dir)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(password) >= 12
    assert password in told
    assert User.objects.get(email="ada@example.com").check_password(password)
    assert password not in run("demo_data")
    assert accounts.kept_password(data_dir) == password


def test_a_lost_password_file_is_said_and_can_be_mended(demo: Path):
    (demo / accounts.FILE).unlink()

    assert "is gone" in run("demo_data")
    assert not (demo / accounts.FILE).exists()
    run("demo_data", password="another good password")
    assert User.objects.get(email="ines@example.com").check_password("another good password")


def test_changes_went_through_the_verbs_and_the_chain_holds(demo: Path):
    actions = list(AuditEntry.objects.values_list("action", flat=True))

    assert actions.count("user.create") == 5
    assert actions.count("release.create") == 2
    assert actions.count("release.activate") == 2
    assert set(AuditEntry.objects.values_list("actor_label", flat=True)) == {"system (demo data)"}
    assert audit.verify().first_bad_id is None


def test_an_api_token_is_made_only_when_asked_for(demo: Path):
    assert not ApiToken.objects.exists()

    text = run("demo_data", api_token=True).rsplit(" ", 1)[1].strip()

    assert tokens.authenticate(text) == ApiToken.objects.get()
    assert ApiToken.objects.get().expires_at < now() + timedelta(days=31)


def test_samples_offer_inputs_and_find_people(demo: Path):
    offered = samples.of("support")

    assert len(offered.inputs) == 14
    assert "Ana Lima" in {person.label for person in offered.people}
    assert [person.id for person in samples.of("support", "cus_1002").people] == ["cus_1002"]
    assert "cus_1001" in {person.id for person in samples.of("support", "order 10482").people}
    assert samples.of("support", "ana li").people
    assert samples.of("support", "\0%_'; --") is not None
    assert samples.of("support", "nobody of this name").people == []


# demo_traffic


def test_traffic_starts_runs_of_customers(demo: Path):
    told = run("demo_traffic", rate=6000, runs=15, seed=7)

    started = list(Run.objects.all())
    assert len(started) == 15
    assert len({one.principal_id for one in started}) > 5
    assert all(one.principal_id.startswith("cus_") and one.principal_label for one in started)
    assert {one.started_by_label for one in started} == {"system (demo traffic)"}
    assert f"Stopped: {len(started)} runs started." in told


def test_the_same_seed_writes_the_same_messages(demo: Path):
    for _ in range(2):
        run("demo_traffic", rate=6000, runs=8, seed=7)

    texts = list(Run.objects.order_by("pk").values_list("input_text", flat=True))
    assert texts[:8] == texts[8:]
    assert len(set(texts)) > 4


def test_a_paused_intake_takes_runs_and_holds_them(demo: Path):
    switches.engage(Scope.EVERYTHING, SwitchEffect.PAUSE_RUNS, "", by=harness.DECIDER, reason="Maintenance")

    told = run("demo_traffic", rate=600, seconds=0.5)

    assert Run.objects.count() > 0
    assert set(Run.objects.values_list("status", flat=True)) == {RunStatus.QUEUED}
    assert "0 runs started" not in told


@pytest.mark.parametrize(
    ("options", "said"),
    [({"rate": 0}, "above 0"), ({"rate": 10**6}, "at most 6000"), ({"approve_share": 1.5}, "between 0 and 1")],
)
@pytest.mark.django_db
def test_numbers_that_make_no_sense_are_refused(options: dict[str, Any], said: str):
    with pytest.raises(CommandError, match=said):
        run("demo_traffic", **options)


@pytest.mark.django_db
def test_without_the_demo_it_says_what_to_do():
    with pytest.raises(CommandError, match="demo_data"):
        run("demo_traffic", seconds=1)


@pytest.mark.django_db(transaction=True)
def test_a_customer_goes_on_once_the_first_run_has_ended(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    run("demo_data", password=PASSWORD)
    monkeypatch.setattr("runtime.shop.traffic.FOLLOW_UP_SHARE", 1.0)
    monkeypatch.setattr("runtime.shop.management.commands.demo_traffic.LOOK_EVERY_S", 0.05)

    def end_all(*_: Any) -> None:
        Run.objects.filter(status=RunStatus.QUEUED).update(status=RunStatus.SUCCEEDED)

    monkeypatch.setattr("runtime.shop.management.commands.demo_traffic.time.sleep", end_all)
    run("demo_traffic", rate=600, runs=4)

    threads = list(Run.objects.values_list("thread_id", flat=True))
    assert len(set(threads)) < len(threads)


@pytest.mark.django_db(transaction=True)
def test_it_outlives_a_restart_of_the_database_and_ctrl_c_ends_it_with_a_summary(data_dir: Path):
    run("demo_data", password=PASSWORD)
    database = settings.DATABASES["default"]
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    process = subprocess.Popen(
        [sys.executable, "manage.py", "demo_traffic", "--rate", "120"],
        cwd=settings.BASE_DIR, env={**os.environ, "DATABASE_URL": url, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # Tests started in the background of a shell are deaf to SIGINT, and so would be what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        wait_for_runs(1)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [database["NAME"]],
            )
        assert process.stdout is not None
        heard = []
        while not heard or (heard[-1] and "answers again" not in heard[-1]):
            heard.append(process.stdout.readline())
        wait_for_runs(2)
        process.send_signal(signal.SIGINT)
        told = "".join(heard) + process.communicate(timeout=PATIENCE_S)[0]
    finally:
        process.kill()

    assert process.returncode == 0, told
    assert "Traceback" not in told
    assert told.count("PostgreSQL does not answer: terminating connection") == 1
    assert "PostgreSQL answers again." in told
    assert "Stopped: " in told


def wait_for_runs(count: int) -> None:
    until(lambda: Run.objects.count() >= count)
