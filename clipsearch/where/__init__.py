"""Which files are meant: a small language over what is known of them. Parsed, never evaluated.

    duration > 1:30 and path glob 'holiday/*'
    kind in ('image', 'video') and not (tag = 'dog' or size < 10MB)
    date = 2024-05 and resolution >= 1920x1080

`or`, `and` and `not` bind in that order, `not` closest; parentheses group. A test is a field with

    = == != <> < <= > >=   a value
    glob, not glob         a pattern: * any characters, also /; ? one; [a-z] [^a-z] one of a set
    in (…), not in (…)     some values
    between … and …        two values, both included; or not between
    is null, is not null   whether it is known

Text stands in '…' or "…", a quote inside it doubled; keywords may be written in any case, text is
compared as it is. Numbers, sizes (10MB, 1.5GiB), durations (1:30, 90s, 1h30m), dates (2024,
2024-05, 2024-05-31, '2024-05-31 14:00', of the local time zone) and resolutions (1920x1080) need
no quotes. A date is the whole year, month, day or minute that it names: = means within it, > after
its end. Logic has two values: every comparison with what is not known is false, `!=` too, and
`not` makes that true.

`FIELDS` says what there is to ask for. Any other name, or one in quotes, is that of a column that
was added with vectors.
"""

from clipsearch.where.conditions import (
    FIELDS,
    All,
    AnyOf,
    Condition,
    Field,
    Not,
    Operator,
    Test,
    all_of,
    any_of,
    columns_of,
    fields_of,
)
from clipsearch.where.evaluate import compiled, matches, media_values, row_values
from clipsearch.where.parsing import parse

__all__ = [
    "FIELDS",
    "All",
    "AnyOf",
    "Condition",
    "Field",
    "Not",
    "Operator",
    "Test",
    "all_of",
    "any_of",
    "columns_of",
    "compiled",
    "fields_of",
    "matches",
    "media_values",
    "parse",
    "row_values",
]
