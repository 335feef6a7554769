"""The embedded servers for real: they start, keep their data, keep strangers out, and never outlive their parent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from console.embedded import account, binaries, files, lock, processes, servers, session
from console.embedded.postgres import Postgres
from console.embedded.processes import ServerProblem
from console.embedded.valkey import Valkey
from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return files.folder(tmp_path / "data")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped cluster; copies of it spare each test the making of one."""
    folder = tmp_path_factory.mktemp("cluster")
    server = Postgres(folder, throwaway=True)
    server.start()
    server.stop()
    return folder


@pytest.fixture
def copied(cluster: Path, data_dir: Path) -> Path:
    shutil.copytree(cluster, data_dir, dirs_exist_ok=True)
    return data_dir


@pytest.fixture
def stopping() -> Iterator[Callable[[Postgres | Valkey], Postgres | Valkey]]:
    started: list[Postgres | Valkey] = []

    def remember(server: Postgres | Valkey) -> Postgres | Valkey:
        started.append(server)
        return server

    yield remember
    for server in started:
        server.stop()


def is_gone(pid: int) -> bool:
    return not any(processes.arguments_of(pid))


def eventually(is_true: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    return processes.wait_until(is_true, alive=lambda: True, seconds=seconds)


def test_postgres_keeps_its_data_over_a_restart(data_dir):
    first = Postgres(data_dir, throwaway=True)
    first.start()
    with psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    first.stop()

    second = Postgres(data_dir, throwaway=True)
    second.start()
    with psycopg.connect(second.url) as connection:
        found = connection.execute("SELECT answer FROM kept").fetchone()
    second.stop()

    assert found == (42,)
    assert second.url == first.url


def test_the_role_of_the_console_is_no_superuser(copied, stopping):
    server = stopping(Postgres(copied, throwaway=True))
    server.start()

    with psycopg.connect(server.url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")


def test_postgres_wants_its_password(copied, stopping):
    server = stopping(Postgres(copied, throwaway=True))
    server.start()

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url.replace(server.settings["password"], "guessed"))


def test_what_holds_a_password_is_private(copied, stopping):
    for server in (stopping(Postgres(copied, throwaway=True)), stopping(Valkey(copied))):
        server.start()
    servers.keys(copied)

    for path in (copied / "postgres.json", copied / "valkey" / "valkey.conf", copied / "secrets.json"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert copied.stat().st_mode & 0o077 == 0


def test_a_cluster_of_another_version_is_refused_with_the_way_out(copied):
    (copied / "postgres" / "PG_VERSION").write_text("13\n")

    with pytest.raises(ServerProblem) as refused:
        Postgres(copied).start()

    assert "was made by PostgreSQL 13" in str(refused.value)
    assert f"mv {copied / 'postgres'} {copied / 'postgres-13'}" in str(refused.value)


def test_a_lost_password_is_told_instead_of_making_a_new_cluster(copied):
    (copied / "postgres.json").unlink()

    with pytest.raises(ServerProblem, match=r"postgres\.json is missing"):
        Postgres(copied).start()


def test_a_stale_pid_file_that_names_a_stranger_hurts_nobody(copied, stopping):
    stranger = subprocess.Popen(["sleep", "60"])
    assert eventually(lambda: not is_gone(stranger.pid))
    (copied / "postgres" / "postmaster.pid").write_text(f"{stranger.pid}\n{copied / 'postgres'}\n0\n1\n\n\n\nready\n")

    server = stopping(Postgres(copied, throwaway=True))
    server.start()

    assert stranger.poll() is None
    assert server.is_alive()
    stranger.kill()
    stranger.wait()


def test_an_orphan_of_ours_is_stopped_before_the_next_start(copied, stopping):
    orphan = stopping(Postgres(copied, throwaway=True))
    orphan.start()

    server = stopping(Postgres(copied, throwaway=True))
    server.start()

    assert orphan.process.wait(PATIENCE_S) == 0
    assert server.is_alive()


def test_postgres_recovers_after_a_kill(copied, stopping):
    server = stopping(Postgres(copied))
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS answer")
    server.process.kill()
    server.process.wait()

    server.start()

    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (1,)


def test_an_interrupted_first_start_leaves_no_half_of_a_cluster(data_dir, monkeypatch):
    broken = data_dir / "programs"
    broken.mkdir()
    (broken / "postgres").symlink_to(binaries.postgres() / "postgres")
    (broken / "initdb").write_text("#!/bin/sh\necho 'could not write: No space left on device'\nexit 1\n")
    (broken / "initdb").chmod(0o755)
    monkeypatch.setenv(binaries.POSTGRES_VARIABLE, str(broken))

    with pytest.raises(ServerProblem, match="The disk is full"):
        Postgres(data_dir).start()

    assert sorted(path.name for path in data_dir.iterdir()) == ["postgres.json", "programs"]


@as_root
def test_root_without_namespaces_uses_an_existing_account(data_dir):
    server = Postgres(data_dir, throwaway=True, namespaces=False)
    try:
        server.start()
        owner = server.cluster.stat().st_uid
        runs_as = Path(f"/proc/{server.process.pid}").stat().st_uid
    finally:
        server.stop()
        if not server.cluster.is_relative_to(data_dir):
            shutil.rmtree(server.cluster.parent)

    assert owner == runs_as == account.existing_account()[0] != 0


@as_root
def test_programs_out_of_reach_of_the_account_are_copied(tmp_path):
    hidden = tmp_path / "hidden"
    package = binaries.postgres().parents[1]
    shutil.copytree(package, hidden / package.name)
    if (libraries := package.with_name(f"{package.name}.libs")).exists():
        shutil.copytree(libraries, hidden / libraries.name)
    hidden.chmod(0o700)
    programs = hidden / package.name / binaries.postgres().relative_to(package)

    chosen = account.choose(tmp_path / "postgres", programs, namespaces=False)

    try:
        child = processes.start([chosen.programs / "initdb", "--version"], identity=chosen.identity)
        said, _ = child.communicate()
        assert child.returncode == 0, said
        assert chosen.programs != programs
    finally:
        for made in (chosen.programs.parents[2], chosen.cluster.parent):
            if made.parent == account.ELSEWHERE:
                shutil.rmtree(made, ignore_errors=True)


def test_valkey_keeps_its_data_over_a_kill(data_dir, stopping):
    server = stopping(Valkey(data_dir))
    server.start()
    with redis.Redis.from_url(server.url) as connection:
        connection.set("kept", "yes")
    time.sleep(1.2)  # appendfsync everysec
    server.process.kill()
    server.process.wait()

    server.start()

    with redis.Redis.from_url(server.url) as connection:
        assert connection.get("kept") == b"yes"
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_valkey_wants_its_password(data_dir, stopping):
    server = stopping(Valkey(data_dir))
    server.start()

    with redis.Redis(port=server.port) as connection, pytest.raises(redis.AuthenticationError):
        connection.get("anything")


PARENT = """
    import json, sys, time
    from pathlib import Path
    from console.embedded import processes
    from console.embedded.postgres import Postgres
    from console.embedded.valkey import Valkey

    processes.KERNEL_TIES = json.loads(sys.argv[2])
    started = [Postgres(Path(sys.argv[1]), throwaway=True), Valkey(Path(sys.argv[1]), throwaway=True)]
    for server in started:
        server.start()
    print(json.dumps([server.process.pid for server in started]), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("by_kernel", [True, False], ids=["by the kernel", "by a watching process"])
def test_no_server_outlives_a_killed_parent(copied, by_kernel):
    if by_kernel and sys.platform != "linux":
        pytest.skip("only Linux signals children of a dead parent")
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), copied, json.dumps(by_kernel)], stdout=subprocess.PIPE, cwd=ROOT
    )
    pids = json.loads(parent.stdout.readline())
    assert not any(is_gone(pid) for pid in pids)

    parent.send_signal(signal.SIGKILL)
    parent.communicate()

    assert eventually(lambda: all(is_gone(pid) for pid in pids))


def test_keys_are_made_once(data_dir, monkeypatch):
    for name in servers.KEYS:
        monkeypatch.delenv(name.upper(), raising=False)

    first, second = servers.keys(data_dir), servers.keys(data_dir)

    assert first == second
    assert all(len(key) >= 50 for key in first.values())
    assert len(set(first.values())) == 2


def test_damaged_keys_are_never_replaced_silently(data_dir):
    files.write(data_dir / "secrets.json", "{half")

    with pytest.raises(ServerProblem, match="damaged"):
        servers.keys(data_dir)


def test_a_server_given_from_outside_is_not_started(data_dir, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/else")
    monkeypatch.delenv("REDIS_URL")

    found = servers.embedded(data_dir)

    assert found.postgres is None
    assert found.valkey is not None


def test_with_both_given_no_data_directory_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/else")
    monkeypatch.setenv("REDIS_URL", "redis://somewhere/0")

    with servers.running(tmp_path / "data") as found:
        assert found.each() == []
        assert found.variables["DATABASE_URL"] == "postgresql://somewhere/else"

    assert not (tmp_path / "data").exists()


def test_too_little_disk_is_told_before_anything_is_made(data_dir, monkeypatch):
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setattr(servers, "SMALLEST_DISK_BYTES", 2**60)

    with pytest.raises(ServerProblem, match="MB are free on the disk"):
        servers.embedded(data_dir)


def test_the_second_owner_is_told_who_is_the_first(data_dir):
    first = lock.OwnerLock(data_dir)
    assert first.take("manage.py up") is None
    first.tell(lock.Owner(os.getpid(), "manage.py up", "http://127.0.0.1:8000"))

    told = lock.OwnerLock(data_dir).take("manage.py shell")

    assert told == lock.Owner(os.getpid(), "manage.py up", "http://127.0.0.1:8000")
    first.release()
    assert lock.OwnerLock(data_dir).take("manage.py shell") is None


def test_the_owner_sees_who_leans_on_its_servers(data_dir):
    with lock.leaning(data_dir):
        assert lock.has_leaners(data_dir)

    assert not lock.has_leaners(data_dir)


@pytest.mark.parametrize("command", ["check", "makemigrations", "help", "collectstatic"])
def test_a_command_that_reads_only_code_starts_nothing(tmp_path, monkeypatch, command):
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("STEADYHAND_DATA_DIR", str(tmp_path / "data"))

    with session.around([command]):
        assert "DATABASE_URL" not in os.environ
        assert len(os.environ["STEADYHAND_SECRET_KEY"]) >= 50

    assert not (tmp_path / "data").exists()


def test_a_command_leans_on_the_servers_of_up(data_dir, monkeypatch):
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("REDIS_URL")
    monkeypatch.setenv("STEADYHAND_DATA_DIR", str(data_dir))
    owner = lock.OwnerLock(data_dir)
    owner.take("manage.py up")
    files.write_json(servers.endpoints_file(data_dir), {"database_url": "postgresql://up", "redis_url": "redis://up"})

    with session.around(["shell"]):
        assert os.environ["DATABASE_URL"] == "postgresql://up"
        assert lock.has_leaners(data_dir)

    owner.release()
