"""The databases of a test run: private servers, started for it and gone after it.

`start_postgres()`, `start_mariadb()` and `start_redis()` give a running server of one's own, to be killed and started again:

    with start_postgres() as server:
        run_worker(DATABASE_URL=server.url)
        server.kill()
        server.start()
"""

from tests.databases.directories import PrivateDirectory
from tests.databases.redis import RedisServer, start_redis
from tests.databases.servers import SERVERS, MariaDBServer, PostgresServer, Server, start_mariadb, start_postgres

__all__ = [
    "SERVERS",
    "MariaDBServer",
    "PostgresServer",
    "PrivateDirectory",
    "RedisServer",
    "Server",
    "start_mariadb",
    "start_postgres",
    "start_redis",
]
