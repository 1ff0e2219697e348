"""A task. `@shared_task` goes above `@meter_task`; without Celery it is a plain function."""

from __future__ import annotations

from importlib.util import find_spec

from flexmeter.decorators import meter_task


@meter_task(
    "report",
    customer=lambda arguments, result: arguments["customer"],
    quantity=lambda arguments, result: result,
)
def make_report(customer: str, rows: int) -> int:
    return rows


if find_spec("celery"):
    from celery import shared_task

    make_report = shared_task(name="shop.make_report", ignore_result=True)(make_report)
