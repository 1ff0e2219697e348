"""The test run's own means: which database it is on, and servers that can be killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.databases import SERVERS, PrivateDirectory, Server
from tests.databases.guard import is_alive
from tests.polling import eventually
from tests.requirements import only_on, requires

ROOT = Path(__file__).resolve().parent.parent

# What does not depend on the run's database runs with one of them.
once = only_on("sqlite")
each_server = pytest.mark.parametrize(
    "server_class", [pytest.param(SERVERS[name], marks=requires(name), id=name) for name in SERVERS]
)


@pytest.mark.django_db
def test_the_run_is_on_the_database_it_was_asked_for(pytestconfig):
    vendor = {"mariadb": "mysql"}.get(pytestconfig.option.database, pytestconfig.option.database)
    assert connection.vendor == vendor
    if vendor == "mysql":
        assert connection.mysql_is_mariadb


@only_on("sqlite")
@pytest.mark.django_db
def test_sqlite_keeps_a_write_ahead_log_and_locks_when_a_transaction_begins():
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)
    assert connection.transaction_mode == "IMMEDIATE"


@only_on("mariadb")
@pytest.mark.django_db
def test_mariadb_has_the_collation_it_was_shipped_with():
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@character_set_database, 'a' = 'A'")
        assert cursor.fetchone() == ("utf8mb4", 1)


def test_another_process_sees_what_a_test_commits(database_url):
    from django.contrib.auth.models import Group

    Group.objects.create(name="committed")
    program = "from django.contrib.auth.models import Group; print(Group.objects.get().name)"
    assert run_in_example_project(program, database_url) == "committed"


@once
@each_server
def test_a_killed_server_starts_again_with_every_committed_row(server_class: type[Server]):
    with server_class() as server:
        writer = server.connect()
        writer.cursor().execute("CREATE TABLE kept (number int)")
        writer.cursor().execute("INSERT INTO kept VALUES (1), (2)")
        server.kill()
        with pytest.raises(server.driver.OperationalError):
            writer.cursor().execute("SELECT 1")
        with pytest.raises(server.driver.OperationalError):
            server.connect()
        writer.close()

        server.start()
        reader = server.connect()
        cursor = reader.cursor()
        cursor.execute("SELECT number FROM kept ORDER BY number")
        assert list(cursor.fetchall()) == [(1,), (2,)]
        reader.close()
        directory = server.path
    assert not directory.exists()


@once
@each_server
def test_the_example_project_runs_on_the_url_of_a_server(server_class: type[Server]):
    program = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT %s", ["Größe 漢字"])
    print(*cursor.fetchone())
"""
    with server_class() as server:
        assert run_in_example_project(program, server.url) == "Größe 漢字"


@once
@each_server
def test_no_server_outlives_a_process_that_was_killed(server_class: type[Server]):
    program = (
        f"from tests.databases import SERVERS; server = SERVERS[{server_class.name!r}](); server.start(); "
        "print(server.path, server.process.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        directory, pid = owner.stdout.readline().split()
        assert Path(directory).exists()
        owner.kill()
    eventually(lambda: not Path(directory).exists())
    assert not is_alive(int(pid))


@once
def test_a_private_directory_is_removed_with_all_that_is_in_it():
    directory = PrivateDirectory("test")
    (directory.path / "deep").mkdir()
    (directory.path / "deep" / "file").write_text("text")
    directory.close()
    assert not directory.path.exists()


def run_in_example_project(program: str, database_url: str) -> str:
    """What `program` prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, ROOT / "example_project/manage.py", "shell", "-c", program],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATABASE_URL": database_url,
            "PYTHONIOENCODING": "utf-8",
        },
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.splitlines()[-1]


def pytest_without_servers(
    directory: Path, *arguments: str, test: str = "def test_one(): pass", requires: str = ""
) -> subprocess.CompletedProcess[str]:
    """A run of one test on a machine that has no server programs."""
    (directory / "test_one.py").write_text(test)
    program = (
        "import sys, pytest, tests.databases.servers as servers; servers.find_program = lambda names: None; "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "-c", ROOT / "pyproject.toml", "-rs", *arguments, directory / "test_one.py"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "XDIST" not in name} | {"REQUIRE_SERVERS": requires},
        capture_output=True,
        text=True,
        check=False,
    )


STORING = "import pytest\n@pytest.mark.django_db\ndef test_one(): pass"


@once
@pytest.mark.parametrize("database", SERVERS)
def test_a_test_that_needs_no_database_runs_with_sqlite_alone(tmp_path, database):
    run = pytest_without_servers(tmp_path, f"--database={database}", test=f"{STORING}\ndef test_another(): pass")
    assert "1 skipped, 1 deselected" in run.stdout
    run = pytest_without_servers(tmp_path, test=f"{STORING}\ndef test_another(): pass")
    assert "2 passed" in run.stdout


@once
@pytest.mark.parametrize("database", SERVERS)
def test_a_run_without_its_server_is_skipped_and_names_the_programs(tmp_path, database):
    run = pytest_without_servers(tmp_path, f"--database={database}", test=STORING)
    assert run.returncode == 0, run.stdout
    assert "1 skipped" in run.stdout
    assert f"{database} needs {SERVERS[database].installer[0]}" in run.stdout


@once
@pytest.mark.parametrize("database", SERVERS)
def test_a_run_without_its_server_fails_where_servers_are_required(tmp_path, database):
    run = pytest_without_servers(tmp_path, f"--database={database}", requires="1")
    assert run.returncode != 0
    assert f"{database} needs {SERVERS[database].installer[0]}" in run.stderr


NEEDY = "import pytest\n@pytest.mark.requires('surely_absent')\ndef test_one(): pass"


@once
def test_a_test_without_what_it_requires_is_skipped_and_names_it(tmp_path):
    run = pytest_without_servers(tmp_path, test=NEEDY)
    assert run.returncode == 0, run.stdout
    assert "the Python module surely_absent is not installed" in run.stdout
    assert "1 skipped" in run.stdout


@once
def test_a_test_without_what_it_requires_fails_where_everything_has_to_be_there(tmp_path):
    run = pytest_without_servers(tmp_path, test=NEEDY, requires="1")
    assert run.returncode == 1
    assert "the Python module surely_absent is not installed, and REQUIRE_SERVERS is set" in run.stdout
