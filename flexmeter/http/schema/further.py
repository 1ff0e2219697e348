"""Operations of apps that stand beside flexmeter and have routes in its API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flexmeter.http.schema.dialect import Schema
from flexmeter.http.schema.operations import Operation

Components = Callable[[], Mapping[str, Schema]]

_declared: dict[str, tuple[Operation, ...]] = {}
_components: dict[str, Components] = {}


def declare(app: str, operations: Sequence[Operation], components: Components) -> None:
    """Describe an app's operations too; `components` gives the shapes that they name."""
    _declared[app], _components[app] = tuple(operations), components


def operations() -> list[Operation]:
    return [operation for declared in _declared.values() for operation in declared]


def components() -> dict[str, Schema]:
    return {name: shape for shapes in _components.values() for name, shape in shapes().items()}
