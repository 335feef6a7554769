from django.db import migrations

from runtime import states
from runtime.models import domains

COUNTS = {"runtime_count": "integer", "runtime_small_count": "smallint", "runtime_big_count": "bigint"}
WORDS = {
    "runtime_run_kind": ("varchar(10)", ("live", "shadow", "eval", "drill", "replay")),
    "runtime_run_status": (
        "varchar(12)",
        (
            "queued",
            "running",
            "waiting",
            "paused",
            "succeeded",
            "refused",
            "escalated",
            "failed",
            "cancelled",
            "expired",
        ),
    ),
    "runtime_run_priority": ("varchar(12)", ("interactive", "background", "evaluation")),
    "runtime_run_held_for": ("varchar(10)", ("", "timer", "thread", "slot")),
    "runtime_step_kind": ("varchar(12)", ("input", "model", "tool", "retrieval", "guardrail", "approval", "answer")),
    "runtime_step_status": ("varchar(10)", ("started", "done", "failed", "refused", "unknown")),
}
# What each column becomes, and the constraint that its domain replaces.
COLUMNS = {
    "runtime_run": {
        **{
            name: ("runtime_count", f"runtime_run_{name}_check")
            for name in (
                "approvals_asked", "fence", "forked_at_step", "model_calls", "recovered_steps", "seq", "steps_used",
                "tool_calls", "tool_errors",
            )
        },
        **{
            name: ("runtime_big_count", f"runtime_run_{name}_check")
            for name in ("cached_tokens", "input_tokens", "output_tokens", "parked_ms", "paused_ms", "working_ms")
        },
        "recoveries": ("runtime_small_count", "runtime_run_recoveries_check"),
        "kind": ("runtime_run_kind", "run_kind_known"),
        "status": ("runtime_run_status", "run_status_known"),
        "priority": ("runtime_run_priority", "run_priority_known"),
        "held_for": ("runtime_run_held_for", "run_hold_known"),
    },
    "runtime_step": {
        **{
            name: ("runtime_count", f"runtime_step_{name}_check")
            for name in ("cached_tokens", "done_seq", "fence", "input_tokens", "output_tokens", "seq")
        },
        "attempt": ("runtime_small_count", "runtime_step_attempt_check"),
        "kind": ("runtime_step_kind", "step_kind_known"),
        "status": ("runtime_step_status", "step_status_known"),
    },
    "runtime_runevent": {"seq": ("runtime_count", "runtime_runevent_seq_check")},
}  # fmt: skip


def words(domain):
    return ", ".join(f"'{word}'" for word in WORDS[domain][1])


def base(domain):
    return COUNTS[domain] if domain in COUNTS else WORDS[domain][0]


def check(column, domain):
    return f"{column} >= 0" if domain in COUNTS else f"{column} IN ({words(domain)})"


def to_domains():
    """One ALTER for each table, so that each is written anew once."""
    for domain in (*COUNTS, *WORDS):
        yield f"CREATE DOMAIN {domain} AS {base(domain)} CHECK ({check('VALUE', domain)})"
    for table, columns in COLUMNS.items():
        changes = [f"DROP CONSTRAINT {constraint}" for _, constraint in columns.values()]
        changes += [f"ALTER COLUMN {column} TYPE {domain}" for column, (domain, _) in columns.items()]
        yield f"ALTER TABLE {table} {', '.join(changes)}"


def from_domains():
    for table, columns in COLUMNS.items():
        changes = [f"ALTER COLUMN {column} TYPE {base(domain)}" for column, (domain, _) in columns.items()]
        changes += [
            f"ADD CONSTRAINT {constraint} CHECK ({check(column, domain)})"
            for column, (domain, constraint) in columns.items()
        ]
        yield f"ALTER TABLE {table} {', '.join(changes)}"
    for domain in (*COUNTS, *WORDS):
        yield f"DROP DOMAIN {domain}"


class Migration(migrations.Migration):
    dependencies = [("runtime", "0016_keep_totals_and_count_rules")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(list(to_domains()), list(from_domains()))],
            state_operations=[
                migrations.RemoveConstraint(
                    model_name="run",
                    name="run_kind_known",
                ),
                migrations.RemoveConstraint(
                    model_name="run",
                    name="run_status_known",
                ),
                migrations.RemoveConstraint(
                    model_name="run",
                    name="run_hold_known",
                ),
                migrations.RemoveConstraint(
                    model_name="run",
                    name="run_priority_known",
                ),
                migrations.RemoveConstraint(
                    model_name="step",
                    name="step_kind_known",
                ),
                migrations.RemoveConstraint(
                    model_name="step",
                    name="step_status_known",
                ),
                migrations.AlterField(
                    model_name="run",
                    name="approvals_asked",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="cached_tokens",
                    field=domains.BigCountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="fence",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="forked_at_step",
                    field=domains.CountField(
                        blank=True,
                        help_text="`seq` of the first step of the other run that this one does again",
                        null=True,
                    ),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="held_for",
                    field=domains.WordField(
                        blank=True,
                        db_default="",
                        default="",
                        help_text="What a queued run needs before a worker may claim it: see runtime.states.Hold",
                        max_length=10,
                    ),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="input_tokens",
                    field=domains.BigCountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="kind",
                    field=domains.WordField(default=states.RunKind["LIVE"], max_length=10),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="model_calls",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="output_tokens",
                    field=domains.BigCountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="parked_ms",
                    field=domains.BigCountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="paused_ms",
                    field=domains.BigCountField(db_default=0, default=0, help_text="The part of parked_ms in a pause"),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="priority",
                    field=domains.WordField(
                        db_default=states.RunPriority["INTERACTIVE"],
                        default=states.RunPriority["INTERACTIVE"],
                        help_text="Names its queue",
                        max_length=12,
                    ),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="recovered_steps",
                    field=domains.CountField(
                        db_default=0,
                        default=0,
                        help_text="Steps it had at the last recovery; more of them are progress",
                    ),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="recoveries",
                    field=domains.SmallCountField(
                        db_default=0, default=0, help_text="Workers that died over it since it last got on"
                    ),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="seq",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="status",
                    field=domains.WordField(default=states.RunStatus["QUEUED"], max_length=12),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="steps_used",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="tool_calls",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="tool_errors",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="run",
                    name="working_ms",
                    field=domains.BigCountField(default=0),
                ),
                migrations.AlterField(
                    model_name="runevent",
                    name="seq",
                    field=domains.CountField(),
                ),
                migrations.AlterField(
                    model_name="step",
                    name="attempt",
                    field=domains.SmallCountField(default=1),
                ),
                migrations.AlterField(
                    model_name="step",
                    name="cached_tokens",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="step",
                    name="done_seq",
                    field=domains.CountField(blank=True, null=True),
                ),
                migrations.AlterField(
                    model_name="step",
                    name="fence",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="step",
                    name="input_tokens",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="step",
                    name="kind",
                    field=domains.WordField(max_length=12),
                ),
                migrations.AlterField(
                    model_name="step",
                    name="output_tokens",
                    field=domains.CountField(default=0),
                ),
                migrations.AlterField(
                    model_name="step",
                    name="seq",
                    field=domains.CountField(),
                ),
                migrations.AlterField(
                    model_name="step",
                    name="status",
                    field=domains.WordField(max_length=10),
                ),
            ],
        ),
    ]
