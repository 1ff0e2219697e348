from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PricingConfig(AppConfig):
    name = "flexmeter.pricing"
    label = "flexmeter_pricing"
    verbose_name = _("Usage pricing")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from flexmeter import pricebook
        from flexmeter.pricing.book import Prices

        pricebook.use(Prices())
