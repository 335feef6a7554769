from typing import ClassVar

from django.db import migrations

REFUSE = """
CREATE FUNCTION shop_policy_never_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'A version of a policy never changes: % on % is refused. Store a new version.', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER shop_policydocument_never_changes BEFORE UPDATE OR DELETE ON shop_policydocument
    FOR EACH ROW EXECUTE FUNCTION shop_policy_never_changes();
CREATE TRIGGER shop_policysection_never_changes BEFORE UPDATE OR DELETE ON shop_policysection
    FOR EACH ROW EXECUTE FUNCTION shop_policy_never_changes();
"""
ALLOW = """
DROP TRIGGER shop_policysection_never_changes ON shop_policysection;
DROP TRIGGER shop_policydocument_never_changes ON shop_policydocument;
DROP FUNCTION shop_policy_never_changes();
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("shop", "0001_shop_tables")]

    operations: ClassVar = [migrations.RunSQL(REFUSE, ALLOW)]
