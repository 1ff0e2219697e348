from django.urls import include, path

from benchmarks.peer.views import BulkView, EventsView

urlpatterns = [
    path("v1/", include("flexmeter.urls")),
    path("peer/events", EventsView.as_view()),
    path("peer/events/bulk", BulkView.as_view()),
]
