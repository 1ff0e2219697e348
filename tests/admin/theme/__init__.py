"""A theme as themes of the admin are: other frames, blocks moved and left out, no colours by name, and every element reset.

It shows no title of a page by itself, has the search only where there are search fields and within a row, the tools of a list
in its header, its actions and rows in one form, and the numbers of its pages in its footer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def dress(settings: Any) -> None:
    """Have the admin wear the theme for the rest of a test; `settings` is the fixture."""
    templates = settings.TEMPLATES[0]
    settings.TEMPLATES = [{**templates, "DIRS": [HERE / "templates", *templates["DIRS"]]}]
    settings.STATICFILES_DIRS = [HERE / "static"]
