"""Whether and when a failed call is made again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releases.bundles import Retries, ToolManifest
from runtime.policies import retrying
from runtime.policies.retrying import ErrorClass, Fallback, GiveUp, Policy, RetryIn

THREE = Policy(attempts=3, base_s=1, longest_s=10, on=frozenset({"timeout", "rate_limited"}))


@pytest.mark.parametrize(
    ("error_class", "attempt", "retry_after_s", "jitter", "expected"),
    [
        ("timeout", 1, None, 1.0, RetryIn(1.0, 2)),
        ("timeout", 2, None, 1.0, RetryIn(2.0, 3)),
        ("timeout", 2, None, 0.25, RetryIn(0.5, 3)),  # full jitter: any part of the ceiling
        ("timeout", 1, None, 0.0, RetryIn(0.0, 2)),
        ("rate_limited", 1, None, 1.0, RetryIn(4.0, 2)),  # who asks us to slow down gets more room
        ("rate_limited", 2, 25.0, 0.1, RetryIn(25.0, 3)),  # Retry-After wins, over the longest wait too
        ("timeout", 1, 0.0, 1.0, RetryIn(0.0, 2)),
        ("timeout", 1, 1e9, 1.0, RetryIn(3600.0, 2)),
        ("timeout", 1, -5.0, 1.0, RetryIn(0.0, 2)),
        ("timeout", 3, None, 1.0, GiveUp("3 of 3 attempts have failed.")),
        ("timeout", 9, 1.0, 1.0, GiveUp("9 of 3 attempts have failed.")),
        ("unavailable", 1, None, 1.0, GiveUp("An error of class unavailable is not retried.")),
        ("refused", 1, 5.0, 1.0, GiveUp("An error of class refused is not retried.")),
    ],
)
def test_the_table_of_cases(error_class, attempt, retry_after_s, jitter, expected):
    assert retrying.decide_retry(error_class, attempt, THREE, retry_after_s, jitter=jitter) == expected


@pytest.mark.parametrize("error_class", ["timeout", "auth", "bad_request", "permanent"])
def test_a_fallback_is_asked_where_the_first_gives_up(error_class):
    policy = Policy(attempts=1, has_fallback=True)

    assert retrying.decide_retry(error_class, 1, policy, jitter=0.5) == Fallback()


@given(
    st.sampled_from(sorted(retrying.MAY_PASS)), st.integers(1, 10_000), st.floats(0.001, 600), st.floats(0.001, 3600),
    st.floats(0, 1),
)  # fmt: skip
def test_a_wait_is_never_longer_than_the_longest_and_grows_with_its_random_part(kind, attempt, base_s, longest_s, part):
    policy = Policy(attempts=20_000, base_s=base_s, longest_s=longest_s)

    wait = retrying.wait_s(kind, attempt, policy, jitter=part)

    assert 0 <= wait <= longest_s
    assert wait == retrying.wait_s(kind, attempt, policy, float("nan"), jitter=part)
    assert wait <= retrying.wait_s(kind, attempt, policy, jitter=1.0) <= longest_s
    assert retrying.wait_s(kind, attempt, policy, jitter=1.0) <= retrying.wait_s(kind, attempt + 1, policy, jitter=1.0)


@pytest.mark.parametrize(
    ("code", "may_pass", "expected"),
    [
        ("rate_limited", True, ErrorClass.RATE_LIMITED),
        ("timeout", True, ErrorClass.TIMEOUT),
        ("unavailable", True, ErrorClass.UNAVAILABLE),
        ("bad_reply", True, ErrorClass.BAD_REPLY),
        ("bad_reply", False, ErrorClass.PERMANENT),  # it will be too long the next time too
        ("bad_request", False, ErrorClass.BAD_REQUEST),
        ("unauthorized", False, ErrorClass.AUTH),
        ("quota_exhausted", False, ErrorClass.AUTH),
        ("too_long", False, ErrorClass.BAD_REQUEST),
        ("recording_diverged", False, ErrorClass.PERMANENT),
        ("something_new", True, ErrorClass.UNAVAILABLE),
        ("something_new", False, ErrorClass.PERMANENT),
    ],
)
def test_codes_of_providers_fall_into_classes(code, may_pass, expected):
    assert retrying.classify(code, may_pass=may_pass) == expected


def test_a_release_can_lower_the_attempts_of_a_run_but_not_raise_them():
    assert retrying.for_model(Retries(attempts=2), most=4, has_fallback=False).attempts == 2
    assert retrying.for_model(Retries(attempts=10), most=4, has_fallback=False).attempts == 4
    assert retrying.for_model(None, most=4, has_fallback=True) == Policy(attempts=4, has_fallback=True)


@pytest.mark.parametrize("contract", ["read", "idempotent", "transactional"])
def test_a_tool_is_retried_where_the_release_says_so(contract):
    manifest = ToolManifest(name="look", retry=contract, retries=Retries(attempts=4, on=["timeout"]))

    policy = retrying.for_tool(manifest)

    assert (policy.attempts, policy.on) == (4, frozenset({"timeout"}))
    assert retrying.for_tool(ToolManifest(name="look", retry=contract)) == retrying.NEVER


def test_an_unsafe_tool_is_never_retried_and_a_manifest_that_asks_for_it_is_refused():
    with pytest.raises(ValueError, match="unsafe to repeat"):
        ToolManifest(name="send", retry="unsafe", retries=Retries(attempts=2))

    smuggled = ToolManifest.model_construct(name="send", retry="unsafe", retries=Retries(attempts=5))
    assert retrying.for_tool(smuggled) == retrying.NEVER
    assert isinstance(retrying.decide_retry("timeout", 1, retrying.NEVER, jitter=1), GiveUp)
