from __future__ import annotations

from django.apps import AppConfig, apps
from django.core.checks import Tags, register
from django.db.backends.signals import connection_created
from django.utils.translation import gettext_lazy as _


class FlexmeterConfig(AppConfig):
    name = "flexmeter"
    verbose_name = _("Usage metering")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from flexmeter import checks
        from flexmeter.stores.database.functions import add_functions
        from flexmeter.stores.database.series import forget

        connection_created.connect(add_functions, dispatch_uid="flexmeter.functions")
        connection_created.connect(forget, dispatch_uid="flexmeter.series")
        register(checks.check_settings)
        register(checks.check_databases, Tags.compatibility)
        register(checks.check_celery, Tags.compatibility)
        if apps.is_installed("drf_spectacular"):
            from flexmeter.http.schema import extensions  # noqa: F401
