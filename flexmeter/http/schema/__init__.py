"""The API described in OpenAPI. Where drf-spectacular is installed, it finds this description by itself.

`components` holds the shapes of requests and answers, `events`, `usage` and `meters` the operations with their examples.
"""

from flexmeter.http.schema import events, meters, usage

OPERATIONS = (*events.OPERATIONS, *usage.OPERATIONS, *meters.OPERATIONS)
