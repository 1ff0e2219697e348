from django.db import models
from django.utils.timezone import now


class Event(models.Model):
    """A row of a table made like flexmeter's own, indexes included (see serving.py)."""

    environment = models.CharField(max_length=64, default="default")
    event_id = models.CharField(max_length=255)
    event_name = models.CharField(max_length=255)
    external_customer_id = models.CharField(max_length=255)
    customer_id = models.CharField(max_length=255, default="")
    source = models.CharField(max_length=255, default="")
    timestamp = models.DateTimeField()
    accepted_at = models.DateTimeField(default=now)
    ingested_at = models.DateTimeField(default=now)
    repeated_at = models.DateTimeField(null=True)
    properties = models.JSONField(null=True)

    class Meta:
        managed = False
        db_table = "peer_event"
