"""The small arithmetic language of expression meters: one number out of an event's top-level properties.

    prompt_tokens + 4 * completion_tokens
    max(seconds - 60, 0) / 60
    tier >= 2 && !(trial > 0) ? ceil(bytes / 1024) : 0

A name is a property, `true` and `false` apart. Operators from loose to tight: `? :`, `||`, `&&`, comparisons, `+ -`,
`* /`, the signs `-` and `!`. Functions: abs, ceil, floor, log (natural), round (half away from zero) and sqrt of one
number; max, min and pow of two, where anything to the power of 0 is 1. Numbers and conditions are different things:
neither stands in for the other.

Arithmetic is decimal with 34 significant digits, rounded half to even, so it gives the same figure everywhere.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from functools import lru_cache
from typing import Any, Final, NamedTuple, NoReturn

from flexmeter.properties import MAX_MAGNITUDE, number

MAX_LENGTH: Final = 1_000
"""Characters that an expression may have."""
MAX_NESTING: Final = 32
"""How deep parentheses, calls, signs and `? :` may stand in one another; a row of `: … ? … : …` is one level."""

_ZERO: Final = Decimal(0)
_ONE: Final = Decimal(1)
_DECIMAL: Final = Context(
    prec=34, rounding=ROUND_HALF_EVEN, Emin=-400, Emax=308, traps=[DivisionByZero, InvalidOperation, Overflow]
)

_Values = Mapping[str, Decimal]
_Run = Callable[[_Values], Any]
_Operator = Callable[[Any, Any], Any]


class ExpressionError(ValueError):
    """A text is not an expression; the message says what is wrong and at which character, counted from 1.

    It is `template % values`, so that it can be told in other languages.
    """

    def __init__(self, template: str, **values: Any) -> None:
        super().__init__(template % values)
        self.template, self.values = template, values


def gettext_noop(text: str) -> str:
    """Marks a text for who collects what is to be translated, as Django's own function of this name does."""
    return text


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; `names` are the properties that it reads. Made by `compile_expression`."""

    source: str
    names: frozenset[str]
    _run: _Run = field(repr=False, compare=False)

    def evaluate(self, properties: Mapping[str, Any]) -> Decimal | None:
        """The value for one event, or None if it has none; never raises.

        A property that is missing or null is 0. There is no value if a property that the expression names is not
        numeric, if a step of the calculation has no finite result, or if the value exceeds what a double holds.
        """
        values = {}
        for name in self.names:
            raw = properties.get(name)
            value = _ZERO if raw is None else number(raw)
            if value is None:
                return None
            values[name] = _DECIMAL.plus(value)
        try:
            result: Decimal = self._run(values)
        except DecimalException:
            return None
        if not result:
            return _ZERO
        return None if result.copy_abs() > MAX_MAGNITUDE else result


@lru_cache(maxsize=1024)
def compile_expression(source: str) -> Expression:
    """Check and compile an expression. Raises ExpressionError."""
    if len(source) > MAX_LENGTH:
        raise ExpressionError(
            gettext_noop("an expression has at most %(most)d characters, this one has %(given)d"),
            most=MAX_LENGTH,
            given=len(source),
        )
    parser = _Parser(source)
    node = parser.parse()
    return Expression(source, frozenset(parser.names), node.run)


class _Token(NamedTuple):
    kind: str
    text: str
    position: int

    def error(self, template: str, **values: Any) -> ExpressionError:
        """What is wrong with this token."""
        return ExpressionError(template, text=_shortened(self.text), position=self.position, **values)


_TOKEN = re.compile(
    r"""
      (?P<space>    [ \t\r\n]+)
    | (?P<number>   (?: [0-9]+ (?: \.[0-9]+ )? | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? (?! [0-9A-Za-z_.] ))
    | (?P<name>     [A-Za-z_][0-9A-Za-z_]*)
    | (?P<operator> && | \|\| | [<>=!]= | [-+*/<>!?:,()])
    """,
    re.VERBOSE,
)
_HINTS: Final = {
    "%": gettext_noop("%% is not supported, at position %(position)d"),
    "^": gettext_noop("^ is not supported, use pow(x, y), at position %(position)d"),
    "=": gettext_noop("= does not compare, use ==, at position %(position)d"),
    "&": gettext_noop("& is not supported, use &&, at position %(position)d"),
    "|": gettext_noop("| is not supported, use ||, at position %(position)d"),
    '"': gettext_noop("text is not supported, only numbers are, at position %(position)d"),
    "'": gettext_noop("text is not supported, only numbers are, at position %(position)d"),
    ".": gettext_noop("a name holds only letters, digits and _, so . cannot stand here, at position %(position)d"),
}


def _tokens(source: str) -> Iterator[_Token]:
    index = 0
    while index < len(source):
        match = _TOKEN.match(source, index)
        if match is None:
            _refuse(source, index)
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match.group(), index + 1)
        index = match.end()
    yield _Token("end", "", index + 1)


def _refuse(source: str, index: int) -> NoReturn:
    malformed = re.compile(r"\.?[0-9][0-9A-Za-z_.]*").match(source, index)
    if malformed is not None:
        text = malformed.group()
        raise ExpressionError(
            gettext_noop("%(text)s at position %(position)d is not a number"), text=_shortened(text), position=index + 1
        )
    character = source[index]
    hint = _HINTS.get(character)
    if hint is not None:
        raise ExpressionError(hint, position=index + 1)
    raise ExpressionError(
        gettext_noop("unexpected character %(character)s, at position %(position)d"),
        character=ascii(character),
        position=index + 1,
    )


class _Node(NamedTuple):
    """A part of an expression: `run` gives a bool for a condition, else a Decimal."""

    run: _Run
    is_condition: bool


def _integral(rounding: str) -> Callable[[Decimal], Decimal]:
    return lambda value: value.to_integral_value(rounding, _DECIMAL)


def _log(value: Decimal) -> Decimal:
    if value <= 0:
        raise InvalidOperation
    return _DECIMAL.ln(value)


def _pow(base: Decimal, exponent: Decimal) -> Decimal:
    if not exponent:
        return _ONE
    if not base and exponent < 0:
        raise DivisionByZero
    return _DECIMAL.power(base, exponent)


_FUNCTIONS: Final[Mapping[str, tuple[int, Callable[..., Decimal]]]] = {
    "abs": (1, _DECIMAL.abs),
    "ceil": (1, _integral(ROUND_CEILING)),
    "floor": (1, _integral(ROUND_FLOOR)),
    "log": (1, _log),
    "max": (2, max),
    "min": (2, min),
    "pow": (2, _pow),
    "round": (1, _integral(ROUND_HALF_UP)),
    "sqrt": (1, _DECIMAL.sqrt),
}
_CONSTANTS: Final = {"true": True, "false": False}
_SUMS: Final[Mapping[str, _Operator]] = {"+": _DECIMAL.add, "-": _DECIMAL.subtract}
_PRODUCTS: Final[Mapping[str, _Operator]] = {"*": _DECIMAL.multiply, "/": _DECIMAL.divide}
_ORDERS: Final[Mapping[str, _Operator]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_COMPARISONS: Final[Mapping[str, _Operator]] = {**_ORDERS, "==": operator.eq, "!=": operator.ne}


class _Parser:
    """Recursive descent, one method for each tightness of binding; rows of one tightness are loops, not recursion."""

    def __init__(self, source: str) -> None:
        self._tokens = list(_tokens(source))
        self._index = 0
        self._nesting = 0
        self.names: set[str] = set()

    def parse(self) -> _Node:
        if self._next.kind == "end":
            raise ExpressionError(gettext_noop("the expression is empty"))
        node = self._choice()
        if self._next.kind != "end":
            self._unexpected()
        if node.is_condition:
            raise ExpressionError(gettext_noop("the expression is a condition and must be a number, such as `condition ? 1 : 0`"))
        if not self.names:
            raise ExpressionError(gettext_noop("the expression names no property, so it is the same for every event"))
        return node

    def _choice(self) -> _Node:
        """`condition ? value : condition ? value : … : value`"""
        self._deeper()
        last = self._either()
        branches: list[tuple[_Node, _Node]] = []
        marks: list[_Token] = []
        while mark := self._accept("?"):
            if not last.is_condition:
                raise mark.error(gettext_noop("%(text)s at position %(position)d needs a condition before it, not a number"))
            value = self._choice()
            self._expect(":")
            branches.append((last, value))
            marks.append(mark)
            last = self._either()
        self._nesting -= 1
        for mark, (_, value) in zip(marks, branches, strict=True):
            if value.is_condition != last.is_condition:
                raise mark.error(gettext_noop("%(text)s at position %(position)d chooses between a number and a condition"))
        if not branches:
            return last
        return _Node(_choose([(test.run, value.run) for test, value in branches], last.run), last.is_condition)

    def _either(self) -> _Node:
        return self._logic("||", self._both, any)

    def _both(self) -> _Node:
        return self._logic("&&", self._comparison, all)

    def _logic(self, sign: str, operand: Callable[[], _Node], decide: Callable[[Iterator[bool]], bool]) -> _Node:
        first = operand()
        runs = [first.run]
        while mark := self._accept(sign):
            second = operand()
            if not (first.is_condition and second.is_condition):
                raise mark.error(gettext_noop("%(text)s at position %(position)d needs a condition on both sides"))
            runs.append(second.run)
        return first if len(runs) == 1 else _Node(_decide(decide, runs), True)

    def _comparison(self) -> _Node:
        first = self._sum()
        is_condition, rest = first.is_condition, []
        while mark := self._accept(*_COMPARISONS):
            second = self._sum()
            if is_condition != second.is_condition:
                raise mark.error(gettext_noop("%(text)s at position %(position)d compares a number with a condition"))
            if is_condition and mark.text in _ORDERS:
                raise mark.error(gettext_noop("%(text)s at position %(position)d needs a number on both sides"))
            rest.append((_COMPARISONS[mark.text], second.run))
            is_condition = True
        return _Node(_apply(first.run, rest), True) if rest else first

    def _sum(self) -> _Node:
        return self._arithmetic(_SUMS, self._product)

    def _product(self) -> _Node:
        return self._arithmetic(_PRODUCTS, self._signed)

    def _arithmetic(self, operators: Mapping[str, _Operator], operand: Callable[[], _Node]) -> _Node:
        first = operand()
        rest = []
        while mark := self._accept(*operators):
            second = operand()
            if first.is_condition or second.is_condition:
                raise mark.error(gettext_noop("%(text)s at position %(position)d needs a number on both sides"))
            rest.append((operators[mark.text], second.run))
        return _Node(_apply(first.run, rest), False) if rest else first

    def _signed(self) -> _Node:
        mark = self._accept("-", "!")
        if mark is None:
            return self._atom()
        self._deeper()
        operand = self._signed()
        self._nesting -= 1
        if operand.is_condition != (mark.text == "!"):
            if operand.is_condition:
                raise mark.error(gettext_noop("%(text)s at position %(position)d needs a number after it"))
            raise mark.error(gettext_noop("%(text)s at position %(position)d needs a condition after it"))
        return _Node(_call([operand.run], operator.not_ if operand.is_condition else _DECIMAL.minus), operand.is_condition)

    def _atom(self) -> _Node:
        token = self._next
        if token.kind == "number":
            self._index += 1
            return _Node(_literal(token), False)
        if token.kind == "name":
            self._index += 1
            if self._accept("("):
                return self._called(token)
            if token.text in _CONSTANTS:
                return _Node(_constant(_CONSTANTS[token.text]), True)
            self.names.add(token.text)
            return _Node(operator.itemgetter(token.text), False)
        self._expect("(")
        inner = self._choice()
        self._expect(")")
        return inner

    def _called(self, name: _Token) -> _Node:
        if name.text not in _FUNCTIONS:
            known = ", ".join(_FUNCTIONS)
            raise name.error(gettext_noop("unknown function %(text)s at position %(position)d; there are %(known)s"), known=known)
        arity, function = _FUNCTIONS[name.text]
        arguments = [] if self._next.text == ")" else [self._choice()]
        while self._accept(","):
            arguments.append(self._choice())
        self._expect(")")
        if len(arguments) != arity or any(argument.is_condition for argument in arguments):
            if arity == 1:
                raise name.error(gettext_noop("%(text)s at position %(position)d takes one number"))
            raise name.error(gettext_noop("%(text)s at position %(position)d takes two numbers"))
        return _Node(_call([argument.run for argument in arguments], function), False)

    @property
    def _next(self) -> _Token:
        return self._tokens[self._index]

    def _accept(self, *signs: str) -> _Token | None:
        token = self._next
        if token.kind != "operator" or token.text not in signs:
            return None
        self._index += 1
        return token

    def _expect(self, sign: str) -> None:
        if not self._accept(sign):
            self._unexpected()

    def _unexpected(self) -> NoReturn:
        token = self._next
        if token.kind == "end":
            raise ExpressionError(gettext_noop("the expression ends too early"))
        raise token.error(gettext_noop("%(text)s at position %(position)d cannot stand there"))

    def _deeper(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._next.error(gettext_noop("nested deeper than %(most)d levels at position %(position)d"), most=MAX_NESTING)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _constant(value: Any) -> _Run:
    return lambda values: value


def _literal(token: _Token) -> _Run:
    try:
        return _constant(_DECIMAL.create_decimal(token.text))
    except DecimalException:
        raise token.error(gettext_noop("%(text)s at position %(position)d is too large")) from None


def _apply(first: _Run, rest: Sequence[tuple[_Operator, _Run]]) -> _Run:
    if len(rest) == 1:
        [(combine, second)] = rest
        return lambda values: combine(first(values), second(values))

    def run(values: _Values) -> Any:
        result = first(values)
        for combine, operand in rest:
            result = combine(result, operand(values))
        return result

    return run


def _call(arguments: Sequence[_Run], function: Callable[..., Any]) -> _Run:
    if len(arguments) == 1:
        [argument] = arguments
        return lambda values: function(argument(values))
    first, second = arguments
    return lambda values: function(first(values), second(values))


def _decide(decide: Callable[[Iterator[bool]], bool], runs: Sequence[_Run]) -> _Run:
    return lambda values: decide(run(values) for run in runs)


def _choose(branches: Sequence[tuple[_Run, _Run]], otherwise: _Run) -> _Run:
    def run(values: _Values) -> Any:
        for test, value in branches:
            if test(values):
                return value(values)
        return otherwise(values)

    return run
