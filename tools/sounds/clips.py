"""Clips as the training takes them: waves and files to mel powers in decibels, kept together."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from numpy.typing import NDArray

from clipsearch.encoders.sound_classifier import MELS, RATE, mel_powers
from tools.sounds import say
from tools.sounds.files import Files
from tools.sounds.waveforms import Wave, unit

LONGEST = 10.0  # seconds of a file that are used: its first
FLOOR_DB = -90.0
PER_PATTERN = 12  # files that one pattern may give: some packages have fifty of one kind


class Clip(NamedTuple):
    """One sound."""

    label: str
    source: str  # package, voice or generator
    name: str  # path, or number
    decibels: NDArray[np.float16]  # (frames, 64) of mel powers, the wave's peak being 1


def clip_of(wave: Wave, label: str, source: str, name: str) -> Clip:
    """The clip of a wave at RATE, of its first ten seconds."""
    some = unit(wave[: int(LONGEST * RATE)])
    powers = mel_powers(torch.from_numpy(some)[None])[0].numpy()
    decibels = 10 * np.log10(np.maximum(powers, 10 ** (FLOOR_DB / 10)))
    used = max(1, (len(some) - 512) // 320 + 1)  # mel_powers appends silence to short waves
    return Clip(label, source, name, decibels[:used].astype(np.float16))


def decode(path: Path) -> Wave:
    """The first ten seconds of a file of sound, mono, without the silence at both ends."""
    parts = []
    with av.open(str(path), metadata_errors="ignore") as media:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        for frame in media.decode(media.streams.audio[0]):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            if sum(map(len, parts)) > 2 * LONGEST * RATE:
                break
        parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return trimmed(np.concatenate(parts).astype("f4"))


def trimmed(wave: Wave) -> Wave:
    """`wave` without what is 60 dB below its peak at both ends."""
    loud: Any = np.flatnonzero(np.abs(wave) > 1e-3 * np.abs(wave).max()) if len(wave) else []
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave[:0]


def listed(folder: Path, files: Files) -> Iterator[tuple[str, str, Path]]:
    """(class, package, path) of the files that the patterns name, in a fixed order."""
    for package, patterns in files.items():
        paths = sorted(p for p in (folder / package).rglob("*") if p.is_file())
        names = ["/" + p.relative_to(folder).as_posix() for p in paths]
        for label, some in patterns.items():
            found = {}
            for pattern in some.split():
                hits = [
                    p
                    for p, n in zip(paths, names, strict=True)
                    if fnmatch.fnmatch(n, "*/" + pattern)
                ]
                step = max(1.0, len(hits) / PER_PATTERN)
                found.update({hits[int(k * step)]: 0 for k in range(min(len(hits), PER_PATTERN))})
            if not found:
                say(f"nothing of {package} is {label}")
            yield from ((label, package, path) for path in found)


def recordings(folder: Path, files: Files) -> Iterator[tuple[str, str, str, Wave]]:
    """(class, package, path in it, wave) of the files that can be read and are not silent."""
    for label, package, path in listed(folder, files):
        try:
            wave = decode(path)
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:
            say(f"left out {path}: {error}")
            continue
        if len(wave) >= 0.05 * RATE:
            yield label, package, path.relative_to(folder / package).as_posix(), wave


def save(path: Path, clips: list[Clip]) -> None:
    """All clips in one file."""
    np.savez(
        path,
        labels=np.array([c.label for c in clips]),
        sources=np.array([c.source for c in clips]),
        names=np.array([c.name for c in clips]),
        lengths=np.array([len(c.decibels) for c in clips]),
        decibels=np.concatenate([c.decibels for c in clips]),
    )


def load(path: Path) -> list[Clip]:
    """What `save` wrote."""
    with np.load(path) as file:
        ends = np.cumsum(file["lengths"])
        parts = np.split(file["decibels"], ends[:-1])
        rows = zip(file["labels"], file["sources"], file["names"], parts, strict=True)
        return [Clip(str(a), str(b), str(c), d) for a, b, c, d in rows]


def without_copies(clips: list[Clip], known: list[Clip], limit: float = 0.95) -> list[Clip]:
    """`clips` less those that sound like one of `known`, or like an earlier one of `clips`.

    Games hand the same recordings on: two clips are copies if their first two seconds from the
    onset on correlate by more than `limit`, at one of five shifts of 20 ms.
    """
    seen = [_print_of(c.decibels, shift) for c in known for shift in (-2, -1, 0, 1, 2)]
    table = np.stack(seen) if seen else np.zeros((0, 100 * MELS), dtype="f4")
    kept = []
    for clip in clips:
        mark = _print_of(clip.decibels, 0)
        if len(table) and float((table @ mark).max()) > limit:
            say(f"a copy: {clip.label} {clip.source} {clip.name}")
            continue
        kept.append(clip)
        table = np.concatenate(
            [table, np.stack([_print_of(clip.decibels, shift) for shift in (-2, -1, 0, 1, 2)])]
        )
    return kept


def _print_of(decibels: NDArray[np.float16], shift: int) -> NDArray[Any]:
    """100 frames from the onset on, relative to the loudest, as a unit vector."""
    levels = np.maximum(decibels.astype("f4") - float(decibels.max()), -60.0) + 60.0
    onset = int(np.argmax(levels.max(axis=1) > 40)) + shift
    out = np.zeros((100, MELS), dtype="f4")
    part = levels[max(0, onset) : onset + 100]
    out[: len(part)] = part
    out -= out.mean()
    return (out / max(float(np.linalg.norm(out)), 1e-6)).ravel()
