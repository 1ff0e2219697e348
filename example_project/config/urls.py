from importlib.util import find_spec

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("v1/", include("flexmeter.urls")),
    path("admin/", admin.site.urls),
    path("shop/", include("shop.urls")),
    # The example brings its few static files along itself; a real site leaves them to its web server.
    path("static/<path:path>", serve, {"insecure": True}),
]

if find_spec("drf_spectacular"):
    from drf_spectacular.views import SpectacularAPIView

    urlpatterns.append(path("schema/", SpectacularAPIView.as_view(), name="schema"))

if find_spec("drf_spectacular_sidecar"):
    from drf_spectacular.views import SpectacularSwaggerView

    urlpatterns += [
        path("docs/", SpectacularSwaggerView.as_view(template_name="docs.html"), name="docs"),
        path("", RedirectView.as_view(pattern_name="docs")),
    ]
