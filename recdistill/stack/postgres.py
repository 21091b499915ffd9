"""PostgreSQL for a stack: whether it is at hand, its data folder, its two databases."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import psutil

from recdistill.problems import BadInput, problem
from recdistill.stack.layout import Database, Stack, open_stack
from recdistill.train.progress import logger

DATABASES = ("mlflow", "prefect")
_PROGRAMS = ("initdb", "postgres")
_ACCOUNT = "postgres"  # PostgreSQL refuses to run as root


def absence(folder: Path) -> str | None:
    """Why there can be no PostgreSQL with its data in this folder; None where there can."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"no {' and no '.join(missing)} on the PATH"
    if os.geteuid() != 0:
        return None
    if _ACCOUNT not in {account.pw_name for account in pwd.getpwall()}:
        return f"it does not run as root, and there is no account {_ACCOUNT}"
    closed = [place for place in (folder, *folder.parents) if place.exists() and not place.stat().st_mode & 0o001]
    return f"the account {_ACCOUNT} may not pass {closed[0]}" if closed else None


def account() -> str | None:
    """Whom PostgreSQL runs as; None is us."""
    return _ACCOUNT if os.geteuid() == 0 else None


def make_cluster(stack: Stack) -> None:
    """A data folder with a password of its own, where there is none yet."""
    home = stack.folder / "postgres"
    if (home / "data/PG_VERSION").is_file():
        return
    shutil.rmtree(home, ignore_errors=True)  # of an initdb that was cut short
    home.mkdir(mode=0o700)
    password = home / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_hex(16))
    if account() is not None:
        shutil.chown(home, _ACCOUNT, _ACCOUNT)
        shutil.chown(password, _ACCOUNT, _ACCOUNT)
    scram = ["--auth=scram-sha-256", f"--pwfile={password}", "--username=recdistill"]
    command = ["initdb", f"--pgdata={home}/data", "--encoding=UTF8", "--locale=C", *scram]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=home, user=account(), group=account()
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        remedy = "mend it, or choose --database sqlite"
        raise BadInput(problem("initdb", wanted="a data folder for PostgreSQL", found=said, remedy=remedy))


def command(stack: Stack) -> list[str]:
    """The server: on loopback alone, without a Unix socket."""
    options = {"listen_addresses": "127.0.0.1", "port": stack.postgres_port, "unix_socket_directories": ""}
    given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return [shutil.which("postgres") or "postgres", "-D", str(stack.folder / "postgres/data"), *given]


def wait_for_the_last(stack: Stack, timeout_s: float = 30.0) -> None:
    """Until the server that used the data folder before is gone: one that was killed takes a moment to be."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and _last_is_there(stack.folder / "postgres/data/postmaster.pid"):
        time.sleep(0.2)


def _last_is_there(lock: Path) -> bool:
    try:
        return psutil.Process(int(lock.read_text().split()[0])).name().startswith("postgres")
    except (OSError, ValueError, IndexError, psutil.Error):
        return False


def answers(stack: Stack) -> bool:
    """Whether the server lets us in."""
    import psycopg2

    try:
        psycopg2.connect(stack.database_url(_ACCOUNT, ""), connect_timeout=3).close()
    except psycopg2.OperationalError:
        return False
    return True


def make_databases(stack: Stack) -> None:
    """One database per server, where there is none yet."""
    import psycopg2

    connection = psycopg2.connect(stack.database_url(_ACCOUNT, ""), connect_timeout=10)
    try:
        connection.autocommit = True  # a database cannot be created in a transaction
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            there = {name for (name,) in cursor.fetchall()}
            for name in DATABASES:
                if name not in there:
                    cursor.execute(f"CREATE DATABASE {name}")
    finally:
        connection.close()


def choose(folder: Path, wanted: str) -> Database:
    """The database of a stack: what it began with, else what is wanted; auto is PostgreSQL where it is at hand.

    BadInput where a stack is to change its kind, or PostgreSQL is wanted and not at hand.
    """
    began = _began_with(folder)
    if wanted == "auto" and began is not None:
        return began
    why = None if wanted == "sqlite" else absence(folder)
    kind: Database = "sqlite" if wanted == "sqlite" or (wanted == "auto" and why is not None) else "postgresql"
    if wanted == "auto" and why is not None:
        logger.info("stack: sqlite, because there is no PostgreSQL: %s", why)
    if kind == "postgresql" and why is not None:
        remedy = "install it, or choose --database sqlite"
        raise BadInput(problem("--database", wanted="PostgreSQL", found=why, remedy=remedy))
    if began not in (None, kind):
        remedy = "keep it, or start another stack with --folder"
        raise BadInput(problem(str(folder), wanted=f"a stack on {kind}", found=f"one on {began}", remedy=remedy))
    return kind


def _began_with(folder: Path) -> Database | None:
    try:
        return open_stack(folder).database
    except BadInput:
        return None
