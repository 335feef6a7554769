from django.db import migrations

# What the version before has delivered, given up or is still trying becomes a delivery of the run's end. Callbacks that
# it has not begun with stay open, and their deliveries are made like those of new runs.
FORWARD = """
WITH tried AS (
    SELECT callback.*, event.seq AS end_seq, event.kind, event.at
    FROM runtime_callback AS callback
    JOIN runtime_runevent AS event ON event.run_id = callback.run_id AND event.kind = 'run.finished'
    WHERE callback.attempts > 0
), carried AS (
    INSERT INTO runtime_delivery
        (id, run_id, seq, kind, happened_at, status, attempts, next_at, delivered_at, last_error, created_at)
    SELECT run_id, run_id, end_seq, kind, at,
        CASE WHEN delivered_at IS NOT NULL THEN 'delivered' WHEN next_at IS NOT NULL THEN 'pending' ELSE 'given_up' END,
        attempts, next_at, delivered_at, last_error, at
    FROM tried
)
UPDATE runtime_callback AS callback SET is_open = false, seen_seq = tried.end_seq, next_at = NULL
FROM tried WHERE tried.run_id = callback.run_id
"""


class Migration(migrations.Migration):
    dependencies = [("runtime", "0003_tell_callers_of_state_changes")]
    operations = [migrations.RunSQL(FORWARD, migrations.RunSQL.noop)]
