from django.urls import include, path

from benchmarks.peer.views import BulkView, EventsView, RowView

urlpatterns = [
    path("v1/", include("flexmeter.urls")),
    path("peer/events", EventsView.as_view()),
    path("peer/events/bulk", BulkView.as_view()),
    path("peer/rows", RowView.as_view()),
]
