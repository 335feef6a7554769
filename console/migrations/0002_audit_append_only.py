from typing import ClassVar

from django.db import migrations

# TRUNCATE stays possible, because tests empty their database with it; the count of `audit.verify` shows a loss.
REFUSE = """
CREATE FUNCTION console_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit log is append-only: % on console_auditentry is refused.', TG_OP;
END $$;
CREATE TRIGGER console_audit_append_only BEFORE UPDATE OR DELETE ON console_auditentry
    FOR EACH ROW EXECUTE FUNCTION console_audit_is_append_only();
"""
ALLOW = """
DROP TRIGGER console_audit_append_only ON console_auditentry;
DROP FUNCTION console_audit_is_append_only();
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("console", "0001_initial")]

    operations: ClassVar = [migrations.RunSQL(REFUSE, ALLOW)]
