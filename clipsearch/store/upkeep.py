"""What a store needs now and then: compaction, recall, checking and mending, and its status."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clipsearch.store import verify as verification
from clipsearch.store.grouping import Plan
from clipsearch.store.recall import (
    QuerySet,
    RecallBench,
    RecallReport,
    stored_queries,
    tuning_of,
)
from clipsearch.store.recipes import check_recipe
from clipsearch.store.store import Store
from clipsearch.store.verify import Problem
from clipsearch.store.writer import Loss, Writer
from clipsearch.types import SOURCES, UNIT_KINDS, IndexStatus

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was wrong, what each damaged segment lost, and what is still wrong."""

    problems: tuple[Problem, ...]
    losses: tuple[Loss, ...]
    left: tuple[Problem, ...]


def compact(
    store: Store, *, recipe: str | None, retrain: bool, wait: bool, on_step: OnStep
) -> None:
    """Merge, train and re-index as the recipe says. `recipe` is the wish from now on."""
    wish = None if recipe is None else check_recipe(recipe)
    with store.writing(wait=wait) as writer:
        if wish is not None and wish != store.manifest.recipe:
            store.update_manifest(recipe=wish)
            writer = Writer(store.folder, store.manifest, store.catalog, store.gpu)
        writer.compact(memory=memory_bytes(), retrain=retrain, on_step=on_step)


def recall(
    store: Store, given: Sequence[QuerySet], *, count: int, k: int, target: float | None
) -> RecallReport:
    """Measure, after tuning to `target` if there is one; the manifest keeps what was found."""
    for queries in given:
        store.check_queries(queries.vectors)
    store.refresh()
    snapshot = store.snapshot()
    bench = RecallBench(snapshot, [*given, stored_queries(snapshot, count, UNIT_KINDS)], k=k)
    width = None if target is None else bench.tune(target)
    report = bench.measure(width)
    tuning = tuning_of(snapshot, report)
    if tuning is not None:
        with store.writing(sweep=False):
            store.update_manifest(tuning=tuning)
        store.forget_snapshot()
    return report


def verify(store: Store, *, on_step: OnStep) -> list[Problem]:
    """Everything that is not as it was written."""
    return list(verification.verify(store.folder, store.manifest, store.catalog, on_step))


def repair(store: Store, *, wait: bool, on_step: OnStep) -> RepairReport:
    """Mend what can be mended, and say what is left."""
    with store.writing(wait=wait, sweep=False) as writer:
        problems = verify(store, on_step=on_step)
        losses = verification.repair(writer, problems)
        left = verify(store, on_step=on_step) if problems else []
    store.forget_snapshot()
    return RepairReport(tuple(problems), tuple(losses), tuple(left))


def status(store: Store) -> IndexStatus:
    """Counts, settings, and what was measured last."""
    manifest, catalog = store.manifest, store.catalog
    segments, counts, pooling = catalog.segments(), catalog.counts(), catalog.pooling()
    writer = Writer(store.folder, manifest, catalog)
    plans = {source: writer.plan(memory_bytes(), source) for source in writer.sources()}
    plan = plans["visual"]
    rows = dict.fromkeys(SOURCES, 0)
    for entry in segments:
        rows[entry.source] += entry.live_rows
    current, tuning = plan.current, manifest.tuning
    if tuning is not None and (current is None or tuning.quantiser != current.name):
        tuning = None
    return IndexStatus(
        path=store.folder,
        model=manifest.encoder,
        fingerprint=manifest.fingerprint,
        dim=manifest.dim,
        recipe=_shown_recipe(manifest.recipe, current.recipe if current else "flat"),
        sampling=manifest.sampling,
        roots=tuple(catalog.roots()),
        images=counts.get("image", 0),
        videos=counts.get("video", 0),
        sounds=counts.get("audio", 0),
        subtitles=counts.get("subtitles", 0),
        failed=counts.get("failed", 0),
        rows=sum(entry.row_count for entry in segments),
        dead_rows=sum(entry.dead_rows for entry in segments),
        segments=len(segments),
        bytes_on_disk=_folder_bytes(store.folder),
        pooling=pooling.fingerprint if pooling else "mean",
        lists=current.lists if current else None,
        trained_rows=current.rows if current else None,
        nprobe=tuning.nprobe if tuning else None,
        candidates=tuning.candidates if tuning else None,
        recall=tuning.measured.recall if tuning and tuning.measured else None,
        advice=next(filter(None, map(advice, plans.values())), None),
        hears=manifest.audio.fingerprint if manifest.audio else None,
        rows_heard=rows["audio"] if manifest.audio else None,
        rows_said=rows["text"] if manifest.texts else None,
    )


def advice(plan: Plan) -> str | None:
    """What would make searching faster."""
    if not plan.retrain:
        return None
    if plan.current is None:
        return (
            f"{plan.rows} vectors are scanned by every search: `clipsearch compact` builds an "
            f"index of them ({plan.recipe.name})"
        )
    return (
        f"the index was trained for {plan.current.rows} vectors and has {plan.rows} now: "
        f"`clipsearch compact` trains it anew ({plan.recipe.name})"
    )


def memory_bytes() -> int:
    """The memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _shown_recipe(wish: str, current: str) -> str:
    return current if wish == current else f"{current} ({wish})"


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # a writer may be merging segments away
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(parent) / name).lstat().st_size
    return total
