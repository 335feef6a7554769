"""Leaving out the plain index of the thread took every index on that column alone with it, this rule included."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("runtime", "0013_find_claimable_runs_by_one_index")]

    operations = [
        migrations.RunSQL(
            """
            CREATE UNIQUE INDEX IF NOT EXISTS run_one_active_per_thread ON runtime_run (thread_id)
            WHERE NOT (status IN ('cancelled', 'escalated', 'expired', 'failed', 'refused', 'succeeded'))
                AND NOT (held_for IN ('thread', 'timer'))
            """,
            migrations.RunSQL.noop,
        )
    ]
