from django.urls import include, path
from rest_framework.routers import SimpleRouter

from shop import api, views

router = SimpleRouter()
router.register("products", api.Products, basename="product")

urlpatterns = [
    path("page/", views.page),
    path("search/", views.search),
    path("thumbnail/<int:width>x<int:height>/", views.Thumbnail.as_view()),
    path("invoice/", views.Invoice.as_view()),
    path("export/", views.export),
    path("ticks/", views.ticks),
    path("files/<name>/", views.by_middleware, name="file"),
    path("order/", views.order),
    path("conversion/", views.conversion),
    path("report/", views.report),
    path("chat/", views.chat),
    path("model/chat/completions", views.model_server),
    path("quote/", api.quote),
    path("prices/", api.Prices.as_view()),
    path("", include(router.urls)),
]
