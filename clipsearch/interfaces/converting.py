"""Options that are as they should be already are not converted: typer does it by pydantic, whose
loading takes longer than the command's own.
"""

from __future__ import annotations

import re
from typing import Any, get_args, get_origin

_NUMBERS = {
    int: re.compile(r"-?[0-9]{1,9}"),
    float: re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?"),
}


def convert_sparingly(command: Any) -> None:
    """Have the options of a command take a value as it is where converting it gives the same.

    All others, which have errors to tell, are typer's as before, and so is everything in a version
    of typer that converts in another way.
    """
    params_of = command.get_params

    def get_params(ctx: Any) -> Any:
        params = params_of(ctx)
        for param in params:
            if hasattr(param, "get_runtime_param") and "get_runtime_param" not in vars(param):
                param.get_runtime_param = _Converting(param).itself
        return params

    command.get_params = get_params


class _Converting:
    """In place of typer's RuntimeParam."""

    def __init__(self, param: Any) -> None:
        self._whole = param.get_runtime_param
        self._type = param.type_descriptor.annotation
        info = param.type_descriptor.parameter_info
        self._own = info.parser is not None
        self._range = (info.min, info.max)

    def itself(self) -> _Converting:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if several and isinstance(value, list | tuple) and get_origin(self._type) is list:
            found = [self._plain(one, get_args(self._type)[0]) for one in value]
            unclear = None in found
        else:
            found = self._plain(value, self._type)
            unclear = found is None
        return self._whole().coerce(value, param=param, ctx=ctx) if unclear else found

    def _plain(self, value: Any, kind: Any) -> Any:
        """What `value` means, or None where typer has to say that."""
        if self._own:
            return None
        if kind in _NUMBERS and isinstance(value, str) and _NUMBERS[kind].fullmatch(value):
            value = kind(value)
        if type(value) is not kind or kind not in (str, int, float, bool):
            return None
        low, high = self._range
        inside = (low is None or value >= low) and (high is None or value <= high)
        return value if inside else None
