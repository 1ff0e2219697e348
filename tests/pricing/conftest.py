from tests.http.conftest import api, db, stranger

__all__ = ["api", "db", "stranger"]
