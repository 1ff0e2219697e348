"""Every command teaches, and what it teaches is true."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pkgutil import iter_modules

import pytest

from flexmeter.management import commands

from tests.management.running import run

COMMANDS = sorted(module.name for module in iter_modules(commands.__path__))


def help_of(capsys, name, *action):
    with pytest.raises(SystemExit) as ended:
        run(name, *action, "--help")
    assert ended.value.code == 0
    return capsys.readouterr().out


def examples_in(text):
    joined = text.replace("\\\n", " ")
    return re.findall(r"manage\.py (flexmeter_\w+)(.*)", joined[joined.index("examples:") :])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_the_command_is_for_and_gives_examples_that_parse(capsys, name):
    text = help_of(capsys, name)
    description = text.split("\n\n")[1]
    assert len(description) > 40
    examples = examples_in(text)
    assert examples
    for command, arguments in examples:
        parser = import_module(f"flexmeter.management.commands.{command}").Command().create_parser("manage.py", command)
        words = shlex.split(re.split(r" [|>] ", arguments)[0])
        parser.parse_args(words)


@pytest.mark.parametrize("action", ["create", "list", "revoke"])
def test_each_action_on_keys_has_help_of_its_own(capsys, action):
    assert "--json" in help_of(capsys, "flexmeter_apikey", action)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    parser = import_module(f"flexmeter.management.commands.{name}").Command().create_parser("manage.py", name)
    assert [action.dest for action in parser._actions if not action.help and action.dest != "action"] == []
