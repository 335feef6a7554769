"""PostgreSQL and Valkey from installed packages, started as children of the process that needs them.

Only the packages' binaries are used. Nothing here imports Django: the servers run before settings are read.
"""
