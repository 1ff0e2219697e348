"""Transactions of clients that are gone: a server may still be ending one when its client has long been killed."""

from __future__ import annotations

from django.db import connection

from tests.polling import eventually

OPEN = {
    "postgresql": """
        SELECT pid, xact_start FROM pg_stat_activity
        WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
    """,
    "mysql": """
        SELECT trx_id, trx_started FROM information_schema.innodb_trx
        JOIN information_schema.processlist ON id = trx_mysql_thread_id
        WHERE id <> connection_id() AND db = database()
    """,
}
REFRESHED_SECONDS = 0.3
"""InnoDB's list of transactions is made anew only when nobody has looked at it for a tenth of a second."""


def wait_for_transactions() -> None:
    """Return once every transaction that is open now in this database has ended; those that begin meanwhile may go on."""
    if connection.vendor in OPEN:
        now_open = transactions()
        eventually(lambda: not now_open & transactions(), every=REFRESHED_SECONDS)


def transactions() -> set[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(OPEN[connection.vendor])
        return set(cursor.fetchall())
