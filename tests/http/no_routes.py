"""Routes of a project that does not include the API."""

urlpatterns: list[object] = []
