from django.db import migrations, models

# As in 0002, and besides: a switch on an MCP server stops every tool whose name begins with `<server>__`.
SERVER = " OR (scope = 'server' AND left(tool, length(target) + 2) = target || '__')"
FUNCTION = """
CREATE OR REPLACE FUNCTION releases_blocking_switch(agent text, tool text, is_write boolean, is_reviewed boolean)
RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(23888);
    RETURN (
        SELECT id FROM releases_killswitch
        WHERE lifted_at IS NULL
          AND (scope = 'everything' OR (scope = 'agent' AND target = agent) OR (scope = 'tool' AND target = tool){server})
          AND (effect = 'disable_tool' OR (is_write AND (effect = 'writes_off'
            OR (effect = 'force_review' AND NOT is_reviewed))))
        ORDER BY effect LIMIT 1
    );
END $$
"""

class Migration(migrations.Migration):

    dependencies = [
        ('releases', '0003_review_label_changes'),
    ]

    operations = [
        migrations.AlterField(
            model_name='killswitch',
            name='scope',
            field=models.CharField(choices=[('everything', 'everything'), ('agent', 'agent'), ('tool', 'tool'), ('server', 'server')], max_length=20),
        ),
        migrations.RunSQL(FUNCTION.format(server=SERVER), FUNCTION.format(server="")),
    ]
