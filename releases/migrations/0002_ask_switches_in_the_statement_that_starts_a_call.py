from django.db import migrations

# 23888 is releases.switches.SWITCH_LOCK. A volatile function looks with a snapshot of its own, taken after the lock: it sees
# what was committed while the statement that calls it waited for the lock, though that statement itself does not.
CREATE = """
CREATE FUNCTION releases_blocking_switch(agent text, tool text, is_write boolean, is_reviewed boolean)
RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(23888);
    RETURN (
        SELECT id FROM releases_killswitch
        WHERE lifted_at IS NULL
          AND (scope = 'everything' OR (scope = 'agent' AND target = agent) OR (scope = 'tool' AND target = tool))
          AND (effect = 'disable_tool' OR (is_write AND (effect = 'writes_off'
            OR (effect = 'force_review' AND NOT is_reviewed))))
        ORDER BY effect LIMIT 1
    );
END $$
"""
DROP = "DROP FUNCTION releases_blocking_switch(text, text, boolean, boolean)"


class Migration(migrations.Migration):
    dependencies = [("releases", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
