"""How something is looked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict, Unpack

from clipsearch.errors import UsageError
from clipsearch.search.duplicates import check_threshold, default_threshold
from clipsearch.search.rerank import Rerank
from clipsearch.search.retrieve import MERGE_GAP_SECONDS
from clipsearch.store.selection import Selection
from clipsearch.where import Condition, parse


class SearchOptions(TypedDict, total=False):
    """The arguments of `Index.search` but the query."""

    top: int
    kind: str | Iterable[str] | None
    source: str | None
    min_score: float
    min_cosine: float
    merge_gap: float
    exact: bool
    pooling: str | None
    rerank: Rerank | None
    where: str | Condition | None
    dedupe: bool | float
    prompts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How something is looked for; the fields are the arguments of `Index.search`."""

    top: int = 10
    kind: str | Iterable[str] | None = None
    source: str | None = None
    min_score: float = 0.0  # relevance, 0..1
    min_cosine: float = -1.0
    merge_gap: float = MERGE_GAP_SECONDS
    exact: bool = False
    pooling: str | None = None
    rerank: Rerank | None = None
    where: Condition | None = None
    dedupe: bool | float = False  # the least cosine of what is the same; True: the encoder's own
    prompts: str = "none"

    @classmethod
    def of(cls, **options: Unpack[SearchOptions]) -> Asked:
        """From the arguments of `Index.search`; a condition may be a text. Raises UsageError."""
        condition = _condition(options.get("where"))
        return cls(**{**options, "where": condition})  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:  # NaN neither
            raise UsageError(
                f"least relevance {self.min_score}: use 0 to 1; a least cosine is --min-cosine"
            )
        if self.kind is not None and not isinstance(self.kind, str):
            object.__setattr__(self, "kind", tuple(self.kind))  # looked at again for each query
        if not isinstance(self.dedupe, bool):
            check_threshold(self.dedupe)

    def least_same(self, model: str | None) -> float | None:
        """The least cosine of hits that are the same; None: no two are."""
        if isinstance(self.dedupe, bool):
            return default_threshold(model) if self.dedupe else None
        return self.dedupe

    @property
    def by_default(self) -> bool:
        """Whether it was left open what kinds of hits are wanted."""
        return self.kind is None and self.source is None


def _condition(where: str | Condition | None) -> Condition | None:
    return parse(where) if isinstance(where, str) else where


def selection_of(where: str | Condition | None) -> Selection | None:
    """The rows that a condition leaves; None for all. Raises UsageError."""
    condition = _condition(where)
    return None if condition is None else Selection(condition)
