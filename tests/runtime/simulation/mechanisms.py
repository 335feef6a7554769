"""What keeps the properties, each with a switch: a simulation that cannot see a missing mechanism proves nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mechanisms:
    """All of them stand in the product. A test takes one away and expects the simulation to find it."""

    fence_in_write: bool = True  # a write by a worker is conditional on the fence it claimed with
    fence_raised: bool = True  # each claim raises the fence
    seq_in_write: bool = True  # the statement that writes takes its numbers from the row
    switch_in_write: bool = True  # the statement that commits an intent asks the kill switches
    requests_in_write: bool = True  # the same statement asks whether the run was cancelled or paused
    intent_first: bool = True  # an intent is committed before its call is made
    unsafe_parks: bool = True  # a call that may have happened is put to a person, not made again
    same_key: bool = True  # a repeated call carries the key of the first attempt
    effect_with_step: bool = True  # a transactional effect commits together with its result
    open_step_only: bool = True  # a result is written for a step that has none yet
    journal_decides: bool = True  # of two results of a call, the one in the journal counts, also for the worker
    gate: bool = True  # proposed calls pass `gating.decide_call`
    compared_at_dispatch: bool = True  # an approved call is compared with its approval before it is made
    release_frozen: bool = True  # a turn is executed with the release the run was accepted with
    wait_kept_apart: bool = True  # working time begins anew with each claim
    end_in_one_write: bool = True  # the last step, status and cause are one operation
    open_calls_marked: bool = True  # a run that ends while a call is open says that it may have happened
    budgets_in_gate: bool = True
    leases_expire: bool = True  # the reconciler frees what an ended life holds
    forgotten_found: bool = True  # the reconciler enqueues again what Redis forgot
    strays_given_back: bool = True  # a life gives back what it holds without working on it
    expiry_swept: bool = True  # approvals that nobody answered end their run


ALL = Mechanisms()
