from django.db import migrations

# A run's row changes with every step, a step's row and payload once more when its result is known. With room on its page
# such a change touches no index.
ROOM = {"runtime_run": 60, "runtime_step": 80, "runtime_steppayload": 70}


class Migration(migrations.Migration):
    dependencies = [("runtime", "0011_leave_out_indexes_that_others_serve")]
    operations = [
        migrations.RunSQL(f"ALTER TABLE {table} SET (fillfactor = {percent})", f"ALTER TABLE {table} RESET (fillfactor)")
        for table, percent in ROOM.items()
    ]
