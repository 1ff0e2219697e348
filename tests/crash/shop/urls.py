from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from tests.crash.shop.orders import place_order


@csrf_exempt
def orders(request: HttpRequest) -> HttpResponse:
    try:
        place_order(request.GET["number"], int(request.GET["amount"]))
    except IntegrityError:  # an earlier try, whose answer got lost
        return HttpResponse(status=200)
    return HttpResponse(status=201)


urlpatterns = [path("orders", orders), path("v1/", include("flexmeter.urls"))]
