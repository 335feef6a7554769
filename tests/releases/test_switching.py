"""What engaged switches mean for a call or a new run, as a table."""

from __future__ import annotations

import pytest

from releases.policies import switching
from releases.policies.switching import Engaged
from releases.states import Scope, SwitchEffect


def engaged(scope, effect, target=""):
    return Engaged(f"{scope}-{effect}-{target}", scope, effect, target, "title", "reason")


ALL_OFF = engaged(Scope.EVERYTHING, SwitchEffect.WRITES_OFF)
AGENT_OFF = engaged(Scope.AGENT, SwitchEffect.WRITES_OFF, "shop")
TOOL_OFF = engaged(Scope.TOOL, SwitchEffect.DISABLE_TOOL, "issue_refund")
ALL_PAUSED = engaged(Scope.EVERYTHING, SwitchEffect.PAUSE_RUNS)
AGENT_PAUSED = engaged(Scope.AGENT, SwitchEffect.PAUSE_RUNS, "shop")
ALL_REVIEW = engaged(Scope.EVERYTHING, SwitchEffect.FORCE_REVIEW)
TOOL_REVIEW = engaged(Scope.TOOL, SwitchEffect.FORCE_REVIEW, "issue_refund")


@pytest.mark.parametrize(
    ("switches", "agent", "tool", "is_write", "stopped_by"),
    [
        ([], "shop", "issue_refund", True, None),
        ([TOOL_OFF], "shop", "issue_refund", True, TOOL_OFF),
        ([TOOL_OFF], "shop", "issue_refund", False, TOOL_OFF),
        ([TOOL_OFF], "mail", "issue_refund", True, TOOL_OFF),
        ([TOOL_OFF], "shop", "issue_refunds", True, None),
        ([TOOL_OFF], "shop", "Issue_Refund", True, None),
        ([ALL_OFF], "shop", "send_reply", True, ALL_OFF),
        ([ALL_OFF], "shop", "lookup_order", False, None),
        ([AGENT_OFF], "shop", "send_reply", True, AGENT_OFF),
        ([AGENT_OFF], "mail", "send_reply", True, None),
        ([ALL_OFF, TOOL_OFF], "shop", "issue_refund", True, TOOL_OFF),
        ([ALL_PAUSED, AGENT_PAUSED], "shop", "issue_refund", True, None),
        ([ALL_REVIEW, TOOL_REVIEW], "shop", "issue_refund", True, None),
    ],
)
def test_decide_call(switches, agent, tool, is_write, stopped_by):
    assert switching.decide_call(switches, agent=agent, tool=tool, is_write=is_write) == stopped_by


@pytest.mark.parametrize(
    ("switches", "agent", "paused_by"),
    [
        ([], "shop", None),
        ([ALL_PAUSED], "shop", ALL_PAUSED),
        ([AGENT_PAUSED], "shop", AGENT_PAUSED),
        ([AGENT_PAUSED], "mail", None),
        ([ALL_OFF, TOOL_OFF, ALL_REVIEW], "shop", None),
    ],
)
def test_decide_start(switches, agent, paused_by):
    assert switching.decide_start(switches, agent=agent) == paused_by


@pytest.mark.parametrize(
    ("switches", "tool", "asked_by"),
    [
        ([ALL_REVIEW], "issue_refund", ALL_REVIEW),
        ([TOOL_REVIEW], "issue_refund", TOOL_REVIEW),
        ([TOOL_REVIEW], "send_reply", None),
        ([ALL_OFF, TOOL_OFF, ALL_PAUSED], "issue_refund", None),
    ],
)
def test_decide_review(switches, tool, asked_by):
    assert switching.decide_review(switches, agent="shop", tool=tool) == asked_by
