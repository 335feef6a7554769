"""`manage.py release_create`: from a file to a release, with the rights of a person."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from console.roles import Role
from releases import labels
from releases.models import Activation, Agent, Release
from tests.builders import a_bundle, a_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bundle.json"
    tools = [labels.installed()[name].model_dump(mode="json") for name in ("lookup_order", "issue_refund")]
    path.write_text(json.dumps(a_bundle("1.0", tools=tools)))
    return path


def run(file, *, role=Role.OPERATOR, agent="mail-triage", **options):
    call_command("release_create", agent, file, email=a_user(role).email, **options)


def test_it_registers_the_agent_and_stores_the_release(file, capsys):
    run(file, note="First", name="Mail triage")

    release = Release.objects.get()
    assert (release.agent.slug, release.agent.name, release.note) == ("mail-triage", "Mail triage", "First")
    assert capsys.readouterr().out.strip() == release.public_id
    assert not Activation.objects.exists()


def test_it_can_make_the_release_active(file):
    run(file, activate="First release")

    assert Activation.objects.get().reason == "First release"
    assert Agent.objects.get().active_release == Release.objects.get()


@pytest.mark.parametrize(
    ("content", "said"), [("{", "not JSON"), ('{"version": "1"}', "model"), (b"\xff\xfe\x00", "cannot be read")]
)
def test_a_file_that_cannot_be_used_leaves_nothing_behind(file, content, said):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(CommandError, match=said):
        run(file)

    assert not Agent.objects.exists()


def test_the_rights_of_the_person_count(file):
    with pytest.raises(CommandError, match="may not create releases"):
        run(file, role=Role.SUPPORT)
    with pytest.raises(CommandError, match="Nobody has the address"):
        call_command("release_create", "mail-triage", file, email="nobody@example.test")

    assert not Agent.objects.exists()
