"""Indexes of the ledger's tables that are not the same on every database."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement


class OrderingIndex(models.Index):
    """An index that gives rows in the order of its fields. The last one only tells rows apart that are equal in the others.

    PostgreSQL sorts such rows as it meets them, so there the index does without that field, which as text takes more room
    than all others together. Other databases would sort all rows.
    """

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Statement:
        if schema_editor.connection.vendor != "postgresql":
            return super().create_sql(model, schema_editor, using=using, **kwargs)
        shorter = models.Index(fields=self.fields[:-1], name=self.name)
        return shorter.create_sql(model, schema_editor, using=using, **kwargs)
