"""Events taken in the way DRF's documentation shows it: declared fields, no rollups, nobody to be authenticated."""

from __future__ import annotations

import json
from typing import Any

from django.db import connection
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.peer.models import Event


class EventListSerializer(serializers.ListSerializer):
    def create(self, validated_data: list[dict[str, Any]]) -> list[Event]:
        return Event.objects.bulk_create([Event(**members) for members in validated_data], ignore_conflicts=True)


class EventSerializer(serializers.Serializer):
    event_id = serializers.CharField(max_length=255)
    event_name = serializers.CharField(max_length=255)
    external_customer_id = serializers.CharField(max_length=255)
    timestamp = serializers.DateTimeField()
    properties = serializers.DictField(required=False)
    source = serializers.CharField(required=False, max_length=255)

    class Meta:
        list_serializer_class = EventListSerializer

    def create(self, validated_data: dict[str, Any]) -> Event:
        return Event.objects.create(**validated_data)


class EventsView(APIView):
    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Request) -> Response:
        form = EventSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        event = form.save()
        return Response({"message": "Event stored", "event_id": event.event_id}, 202)


class BulkView(EventsView):
    def post(self, request: Request) -> Response:
        form = EventSerializer(data=request.data["events"], many=True)
        form.is_valid(raise_exception=True)
        form.save()
        return Response({"message": "Events stored"}, 202)


class RowView(EventsView):
    """Keeps what was sent as one bare row, unchecked: what any view takes that answers after a commit."""

    def post(self, request: Request) -> Response:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO peer_row (body) VALUES (%s)", [json.dumps(request.data)])
        return Response({"message": "Row stored"}, 202)
