"""Records as tables of one schema, whatever values their columns hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipsearch.exchange.rows import Record

EXACT_FLOAT = 2**53  # whole numbers up to here are float64 without loss
LARGEST_INT = 2**63 - 1
NOTHING, BOOLEAN, NUMBER, WHOLE, LARGE, TEXT, OTHER = (
    "nothing",
    "boolean",
    "number",
    "whole",
    "large",
    "text",
    "other",
)
LIST = "list of "
TYPES = {
    NOTHING: pa.string(),  # readers of others stumble over a column of the type null
    BOOLEAN: pa.bool_(),
    NUMBER: pa.float64(),
    WHOLE: pa.int64(),
    LARGE: pa.int64(),
    TEXT: pa.string(),
    OTHER: pa.string(),  # JSON
}


class Columns:
    """The columns of some records and the type of each, found by looking at all of them.

    `mixed` names those whose values are of several types, or no plain ones: they become JSON.
    """

    def __init__(self, fixed: dict[str, pa.DataType]) -> None:
        """fixed: columns that there always are, in this order before the others."""
        self._fixed = fixed
        self._found: dict[str, str] = {}

    def observe(self, records: Iterable[Record]) -> None:
        """Take the columns of more records into account."""
        for record in records:
            for name, value in record.items():
                if name not in self._fixed:
                    self._found[name] = joined(self._found.get(name, NOTHING), kind_of(value))

    @property
    def mixed(self) -> list[str]:
        """Columns that are written as JSON."""
        return [name for name, kind in self._found.items() if kind.endswith(OTHER)]

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow has them."""
        others = {name: _type_of(kind) for name, kind in self._found.items()}
        return pa.schema([*self._fixed.items(), *others.items()])

    def table(self, records: Sequence[Record]) -> pa.Table:
        """Records that were observed as a table of `schema`."""
        arrays = []
        mixed = set(self.mixed)
        for field in self.schema:
            values: list[Any] = [record.get(field.name) for record in records]
            if field.name in mixed:
                values = [None if value is None else _dumped(value) for value in values]
            arrays.append(pa.array(values, field.type))
        return pa.table(arrays, schema=self.schema)


def kind_of(value: Any) -> str:
    """What a value is, as a name of TYPES or a list of one."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        if not -LARGEST_INT - 1 <= value <= LARGEST_INT:
            return OTHER
        return WHOLE if abs(value) <= EXACT_FLOAT else LARGE
    if isinstance(value, float):
        return NUMBER
    if isinstance(value, str):
        return TEXT
    if not isinstance(value, list):
        return OTHER
    inner = NOTHING
    for item in value:
        inner = joined(inner, kind_of(item))
    return OTHER if inner == OTHER or inner.startswith(LIST) else LIST + inner


def joined(first: str, second: str) -> str:
    """What holds values of both kinds without loss."""
    if first == second or second == NOTHING:
        return first
    if first == NOTHING:
        return second
    if first.startswith(LIST) and second.startswith(LIST):
        inner = joined(first.removeprefix(LIST), second.removeprefix(LIST))
        return OTHER if inner == OTHER else LIST + inner
    pair = {first, second}
    if pair == {WHOLE, LARGE}:
        return LARGE
    return NUMBER if pair == {WHOLE, NUMBER} else OTHER


def vector_column(vectors: NDArray[Any]) -> pa.FixedSizeListArray:
    """(n, dim) vectors as a column of lists."""
    values = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])


def _type_of(kind: str) -> pa.DataType:
    if kind.startswith(LIST):
        return pa.list_(TYPES[kind.removeprefix(LIST)])
    return TYPES[kind]


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
