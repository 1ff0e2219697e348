"""How lists are asked for: the parameters of a query string, and the same in a body."""

from __future__ import annotations

import django_filters

from flexmeter.http.paging import DEFAULT_LIMIT, MAX_LIMIT
from flexmeter.http.schema.components import DEFAULT_ORDER
from flexmeter.http.schema.dialect import BOOLEAN, INTEGER, TEXT, TIME, Schema, described, list_of, ref, request
from flexmeter.http.schema.examples import malformed
from flexmeter.http.schema.operations import Example, Operation, Parameter, query_parameters
from flexmeter.pricing.http.filters import Moment, Several
from flexmeter.pricing.http.schema.enumerations import RESOURCES, one_of
from flexmeter.pricing.http.schema.examples import listed

LIMIT: Schema = {**INTEGER, "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
OFFSET: Schema = {**INTEGER, "minimum": 0, "default": 0}
EXPAND = described(TEXT, "What to show along, separated by commas.")


def _schema_of(filter: django_filters.Filter) -> Schema:
    if isinstance(filter, Several):
        return list_of(TEXT)
    if isinstance(filter, Moment):
        return TIME
    if isinstance(filter, django_filters.BooleanFilter):
        return BOOLEAN
    if isinstance(filter, django_filters.ChoiceFilter):
        return one_of([value for value, _ in filter.extra["choices"]])
    return TEXT


def members(name: str) -> dict[str, Schema]:
    """What may be asked of a list of that kind, by the names of its members."""
    resource = RESOURCES[name]
    return {
        **{
            member: described(_schema_of(filter), filter.extra["help_text"])
            for member, filter in resource.filters.base_filters.items()
        },
        "limit": described(LIMIT, "How many on one page."),
        "offset": described(OFFSET, "How many to pass over."),
        "sort": {**ref(f"{name}Sort"), "default": resource.sorts[0]},
        "order": {**ref("SortOrder"), "default": DEFAULT_ORDER},
        "expand": EXPAND,
    }


SEARCHES: dict[str, Schema] = {
    f"{name}SearchRequest": request(members(name), description="Which to list. All members are optional.")
    for name in RESOURCES
    if name != "CouponAssociation"
}


def parameters(name: str) -> tuple[Parameter, ...]:
    """The same as parameters of a query string."""
    shapes = members(name)
    return tuple(query_parameters(shapes, shapes))


BAD_LIMIT = {
    "bad_limit": malformed("A limit that is too large", "limit", f"must be an integer from 1 to {MAX_LIMIT}", limit="5000"),
}


def listing(path: str, name: str, tag: str, shown: dict[str, object], **asked: str) -> Operation:
    """The operation that lists by query string; `asked` is what the example asks for."""
    several = f"{name}s"
    return Operation(
        method="GET",
        path=path,
        id=f"list{several}",
        tag=tag,
        summary=f"List {_words(several)}",
        description="Newest first unless told otherwise.",
        answer=f"{name}ListResponse",
        parameters=parameters(name),
        examples={"narrowed": Example("A narrowed list", parameters=asked, answer=listed(shown))},
        faults={400: BAD_LIMIT},
    )


def searching(path: str, name: str, tag: str, shown: dict[str, object], **asked: object) -> Operation:
    """The operation that lists by a body."""
    several = f"{name}s"
    reason = f"must be an integer from 1 to {MAX_LIMIT}"
    return Operation(
        method="POST",
        path=f"{path}/search",
        id=f"query{name}",
        tag=tag,
        summary=f"Search {_words(several)}",
        description="The same as the list, asked for with a body.",
        body=f"{name}SearchRequest",
        body_required=False,
        answer=f"{name}ListResponse",
        examples={"narrowed": Example("A narrowed list", body=asked, answer=listed(shown))},
        faults={400: {"bad_limit": malformed("A limit that is too large", "limit", reason, body={"limit": 5000})}},
    )


def _words(name: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
