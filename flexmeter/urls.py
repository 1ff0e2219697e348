"""The API's routes, to be included under any prefix: `path("v1/", include("flexmeter.urls"))`."""

from flexmeter.http.urls import urlpatterns

__all__ = ["urlpatterns"]
