"""Text to conditions: a scanner and a parser by recursive descent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from clipsearch.errors import UsageError
from clipsearch.where.conditions import (
    FIELDS,
    Condition,
    Not,
    Operator,
    all_of,
    any_of,
    check_size,
)
from clipsearch.where.subjects import Given, Subject, UnfitError

LONGEST_TEXT = 20_000  # characters
DEEPEST = 50  # parentheses and nots around a test
SHOWN = 24  # characters of the place of an error
KEYWORDS = ("and", "or", "not", "in", "is", "null", "between", "glob", "true", "false")

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<literal>-?(?:\d|\.\d)[\w.:\u00d7+-]*)
    | (?P<word>[^\W\d]\w*)
    | (?P<sign>==|!=|<>|<=|>=|[=<>(),])
    )""",
    re.VERBOSE,
)
_OPERATORS: dict[str, Operator] = {
    "=": "=", "==": "=", "!=": "=", "<>": "=", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
}  # fmt: skip
_NEGATIVE = ("!=", "<>")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text; `value` is the content of quotes, and a keyword in lower case."""

    kind: Literal["text", "literal", "word", "sign", "keyword", "end"]
    value: str
    start: int


def parse(text: str) -> Condition:
    """The condition that a text says. Raises UsageError that points at the place."""
    if len(text) > LONGEST_TEXT:
        raise UsageError(f"a condition of {len(text)} characters: use up to {LONGEST_TEXT}")
    parser = _Parser(text, _tokens(text))
    condition = parser.alternatives(0)
    if parser.next.kind != "end":
        parser.fail("expected `and`, `or` or the end")
    check_size(condition)
    return condition


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            quote = text[at] in "'\""
            _fail(text, at, "this quote has no end" if quote else "this means nothing here")
        kind, value = str(found.lastgroup), found[str(found.lastgroup)]
        if kind == "text":
            value = value[1:-1].replace(value[0] * 2, value[0])
        elif kind == "word" and value.lower() in KEYWORDS:
            kind, value = "keyword", value.lower()
        tokens.append(Token(kind, value, found.start(str(found.lastgroup))))  # type: ignore[arg-type]
        at = found.end()
    return [*tokens, Token("end", "", len(text))]


def _fail(text: str, at: int, message: str) -> NoReturn:
    rest = text[at : at + SHOWN]
    place = f"at character {at + 1}, {rest!r}" if rest.strip() else "at its end"
    raise UsageError(f"the condition {text[:200]!r}, {place}: {message}")


class _Parser:
    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self._text, self._tokens, self._at = text, tokens, 0

    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    def fail(self, message: str, token: Token | None = None) -> NoReturn:
        _fail(self._text, (token or self.next).start, message)

    def take(self) -> Token:
        token = self.next
        self._at += token.kind != "end"
        return token

    def accept(self, *values: str) -> str | None:
        """The sign or keyword that comes next, if it is one of these."""
        if self.next.kind in ("sign", "keyword") and self.next.value in values:
            return self.take().value
        return None

    def expect(self, value: str, message: str) -> None:
        if self.accept(value) is None:
            self.fail(message)

    def alternatives(self, depth: int) -> Condition:
        parts = [self.together(depth)]
        while self.accept("or"):
            parts.append(self.together(depth))
        return _some(any_of(*parts))

    def together(self, depth: int) -> Condition:
        parts = [self.single(depth)]
        while self.accept("and"):
            parts.append(self.single(depth))
        return _some(all_of(*parts))

    def single(self, depth: int) -> Condition:
        if depth > DEEPEST:
            self.fail(f"more than {DEEPEST} parentheses or nots inside each other")
        if self.accept("not"):
            return Not(self.single(depth + 1))
        if self.accept("("):
            inner = self.alternatives(depth + 1)
            self.expect(")", "expected `)`, or `and` or `or`")
            return inner
        return self.test()

    def test(self) -> Condition:
        name = self.take()
        if name.kind not in ("word", "text"):
            self.fail(f"expected a field: {', '.join(FIELDS)}", name)
        subject = Subject.of(name.value, quoted=name.kind == "text")
        if self.accept("is"):
            known = self.accept("not") is not None
            self.expect("null", "expected `null`" if known else "expected `null` or `not null`")
            return Not(subject.missing()) if known else subject.missing()
        if found := self.accept(*_OPERATORS):
            condition = self.fitting(lambda value: subject.compared(_OPERATORS[found], value))
            return subject.negated(condition) if found in _NEGATIVE else condition
        if self.accept("not"):
            return subject.negated(self.worded(subject))
        return self.worded(subject)

    def worded(self, subject: Subject) -> Condition:
        """A test by an operator that is a word."""
        if self.accept("glob"):
            return self.fitting(subject.like)
        if self.accept("between"):
            low = self.fitting(lambda value: subject.compared(">=", value))
            self.expect("and", "expected `and` and the other value of `between`")
            high = self.fitting(lambda value: subject.compared("<=", value))
            return _some(all_of(low, high))
        if self.accept("in"):
            return self.listed(subject)
        return self.fail(f"expected one of {' '.join(_OPERATORS)}, glob, in, between, is null")

    def fitting(self, make: Callable[[Given], Condition]) -> Condition:
        """The condition that comes of the next value."""
        place, value = self.next, self.value()
        try:
            return make(value)
        except UnfitError as error:
            self.fail(str(error), place)

    def listed(self, subject: Subject) -> Condition:
        place = self.next
        self.expect("(", "expected `(` and the values")
        values = [self.value()]
        while self.accept(","):
            values.append(self.value())
        self.expect(")", "expected `,` or `)`")
        try:
            return subject.one_of(values)
        except UnfitError as error:
            self.fail(str(error), place)

    def value(self) -> Given:
        token = self.take()
        if token.kind in ("text", "literal") or token.value in ("true", "false"):
            return Given(token.value, quoted=token.kind == "text")
        if token.kind == "word":
            self.fail(f"put text in quotes: '{token.value}'", token)
        return self.fail("expected a value", token)


def _some(condition: Condition | None) -> Condition:
    assert condition is not None, "there is at least one part"
    return condition
