"""The page on settings says what the declarations say."""

from pathlib import Path

from flexmeter.conf import declared

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"


def expected_page() -> str:
    lines = ["# Settings", "", "All are read on every use, so they can be changed at run time and overridden in tests.", ""]
    lines += ["| Setting | Default | What it is |", "|---|---|---|"]
    for setting in declared():
        choices = f" One of {', '.join(f'`{choice}`' for choice in setting.choices)}." if setting.choices else ""
        lines.append(f"| `{setting.name}` | `{setting.default!r}` | {setting.help}{choices} |")
    return "\n".join(lines) + "\n"


def test_the_page_on_settings_lists_every_setting_as_declared():
    assert PAGE.read_text() == expected_page(), "docs/settings.md is out of step: write expected_page() to it"
