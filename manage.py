#!/usr/bin/env python3
"""The one entry point. `up` starts everything, `test` tests everything, `help` lists the rest.

On a Python without the project's packages it first makes an environment in `.venv` and starts again inside it.
"""

import gc
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Steadyhand needs Python 3.11 or newer; this is Python %d.%d (%s). Start it with a newer one, for example:"
        " python3.11 manage.py up" % (sys.version_info[0], sys.version_info[1], sys.executable)
    )
if sys.platform == "win32":
    sys.exit("Steadyhand runs on Linux and macOS. On Windows, start it inside the Windows Subsystem for Linux (WSL).")


def main() -> None:
    from console import bootstrap

    bootstrap.ensure(sys.argv)

    # Imports and the runs of a worker make many objects, next to none of them in a cycle, and by default Python looks
    # through them after every 700. See docs/explanation/performance.md.
    gc.set_threshold(50_000, 20, 10)

    from console.embedded import processes, session

    if sys.argv[1:2] == ["up"]:
        from console import supervisor

        sys.exit(supervisor.main(sys.argv[2:]))
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    try:
        with session.around(sys.argv[1:]):
            from django.core.management import execute_from_command_line

            execute_from_command_line(sys.argv)
    except processes.ServerProblem as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
