"""The way out over HTTP for tools (SECURITY D41): what a tool's author meets of it."""

from __future__ import annotations

import pytest

from runtime.attempts import class_of
from runtime.policies.retrying import ErrorClass
from runtime.tools import HttpLost, ToolError, fetch
from tests.console.test_fetch import here, server

__all__ = ["here", "server"]


def test_an_allowed_host_answers(here):
    assert fetch("GET", f"{here}/x").body == b"hello"


@pytest.mark.parametrize("url", ["http://0x7f.1/", "http://[::1]/", "http://169.254.169.254/", "file:///etc/passwd"])
def test_an_address_inside_is_an_error_of_the_tool_that_is_not_tried_again(url):
    with pytest.raises(ToolError) as refused:
        fetch("POST", url, body=b"secret")

    assert (refused.value.code, refused.value.kind) == ("address_refused", "refused")


def test_a_get_without_an_answer_may_be_made_again_and_a_post_may_have_arrived(settings):
    settings.ALLOW_PRIVATE_HOSTS = ["127.0.0.1"]

    with pytest.raises(ToolError) as away:
        fetch("GET", "http://127.0.0.1:1/")
    with pytest.raises(HttpLost) as lost:
        fetch("POST", "http://127.0.0.1:1/")

    assert away.value.kind == "unavailable"
    assert class_of(lost.value) == ErrorClass.UNAVAILABLE
