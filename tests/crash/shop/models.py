from django.db import models


class Order(models.Model):
    """What the shop sells: one for each event that carries its number."""

    number = models.CharField(max_length=64, primary_key=True)
    amount = models.PositiveIntegerField()
