"""Phrases for instruments and for a band, written as MIDI files and played from soundfonts."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from tools.sounds.waveforms import Random

SLOT = 6.0  # seconds that each phrase has, its last note included
TICKS = 500  # a second, at the default 120 beats a minute and 250 ticks a beat

# class: (General MIDI programs, lowest and highest key, style)
INSTRUMENTS: dict[str, tuple[tuple[int, ...], int, int, str]] = {
    "piano": ((0, 1, 0, 2, 0, 3), 36, 90, "both"),
    "xylophone": ((8, 9, 10, 11, 12, 13), 60, 96, "melody"),
    "organ": ((16, 17, 18, 19, 19, 20), 40, 84, "both"),
    "accordion": ((21, 22, 23), 50, 84, "both"),
    "acoustic guitar": ((24, 25), 40, 76, "both"),
    "electric guitar": ((27, 29, 30, 30), 40, 80, "both"),
    "bass guitar": ((32, 33, 34, 35, 36), 26, 50, "melody"),
    "violin": ((40, 41, 42, 110), 48, 92, "melody"),
    "string orchestra": ((44, 48, 49), 40, 84, "chords"),
    "harp": ((46,), 40, 92, "both"),
    "choir": ((52, 53), 45, 80, "chords"),
    "trumpet": ((56, 57, 58, 59, 60, 61), 45, 84, "melody"),
    "saxophone": ((64, 65, 66, 67), 45, 82, "melody"),
    "clarinet": ((68, 69, 70, 71), 48, 86, "melody"),
    "flute": ((72, 73, 74, 75), 60, 96, "melody"),
    "drums": ((0, 8, 16, 24, 25, 32), 35, 57, "drums"),
    "bell": ((14,), 48, 80, "melody"),
    "music": ((), 0, 0, "band"),
}
# Added later, with random numbers of their own.
MORE_INSTRUMENTS: dict[str, tuple[tuple[int, ...], int, int, str]] = {
    "bagpipes": ((109, 111), 48, 80, "melody"),
    "banjo or sitar": ((104, 105, 106, 107), 45, 80, "both"),
    "harpsichord": ((6, 7), 36, 86, "both"),
    "synthesizer": ((80, 81, 84, 86, 87, 90), 45, 84, "both"),
    "steel drums": ((114,), 50, 84, "both"),
}
# What General MIDI has at its end: one recording each, played at several pitches.
EFFECTS: dict[str, tuple[tuple[int, ...], int, int, str]] = {
    "ocean waves": ((122,), 50, 72, "long"),
    "bird singing": ((123,), 55, 76, "long"),
    "telephone ringing": ((124,), 58, 78, "long"),
    "helicopter": ((125,), 50, 70, "long"),
    "applause": ((126,), 54, 72, "long"),
    "gunshot": ((127,), 48, 72, "shots"),
}


class Note(NamedTuple):
    """One key that goes down and up."""

    start: float
    length: float
    channel: int
    key: int
    velocity: int


class Phrase(NamedTuple):
    """What is played in one slot."""

    label: str
    programs: dict[int, int]  # channel: program
    notes: list[Note]


def phrases(
    rng: Random, parts: dict[str, tuple[tuple[int, ...], int, int, str]], each: int
) -> list[Phrase]:
    """`each` phrases for each class."""
    made = []
    for label, (programs, low, high, style) in parts.items():
        for number in range(each):
            if style == "band":
                made.append(_band(rng, label))
                continue
            channel = 9 if style == "drums" else 0
            chosen = programs[number % len(programs)]
            kind = ("melody", "chords")[int(rng.integers(2))] if style == "both" else style
            notes = _STYLES[kind](rng, low, high, channel)
            made.append(Phrase(label, {channel: chosen}, notes))
    return made


def _melody(rng: Random, low: int, high: int, channel: int) -> list[Note]:
    pace, at, notes = rng.choice([0.15, 0.25, 0.4, 0.7, 1.2]), 0.0, []
    span = min(high - low, 24)
    base = int(rng.integers(low, high - span + 1))
    scale = [s for s in (0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19, 21, 23) if s <= span]
    degree = int(rng.integers(len(scale)))
    while at < SLOT - 1.6:
        length = float(pace * rng.choice([1, 1, 2]))
        notes.append(
            Note(
                at,
                length * rng.uniform(0.6, 1),
                channel,
                base + scale[degree],
                int(rng.integers(60, 120)),
            )
        )
        degree = int((degree + rng.integers(-3, 4)) % len(scale))
        at += length
    return notes


def _chords(rng: Random, low: int, high: int, channel: int) -> list[Note]:
    pace, at, notes = float(rng.choice([0.5, 1.0, 2.0])), 0.0, []
    base, spread = int(rng.integers(low, max(low + 1, high - 19))), float(rng.choice([0, 0, 0.03]))
    while at < SLOT - 1.8:
        root = base + int(rng.choice([0, 2, 5, 7]))
        for number, step in enumerate((0, int(rng.choice([3, 4])), 7, 12)):
            notes.append(
                Note(
                    at + number * spread,
                    pace * 0.95,
                    channel,
                    root + step,
                    int(rng.integers(60, 115)),
                )
            )
        at += pace
    return notes


def _drums(rng: Random, low: int, high: int, channel: int) -> list[Note]:
    beat, notes = rng.uniform(0.1, 0.22), []
    rides = int(rng.choice([42, 46, 51]))
    for step in range(int((SLOT - 1.5) / beat)):
        if step % 2 == 0 or rng.random() < 0.2:
            notes.append(Note(step * beat, 0.1, channel, rides, int(rng.integers(50, 100))))
        if step % 8 in (0, 5) or rng.random() < 0.1:
            notes.append(Note(step * beat, 0.1, channel, 36, int(rng.integers(80, 120))))
        if step % 8 == 4:
            notes.append(Note(step * beat, 0.1, channel, 38, int(rng.integers(80, 120))))
        if rng.random() < 0.1:
            notes.append(
                Note(
                    step * beat, 0.1, channel, int(rng.integers(41, 58)), int(rng.integers(70, 120))
                )
            )
    return notes


def _long(rng: Random, low: int, high: int, channel: int) -> list[Note]:
    return [Note(0.0, rng.uniform(2.5, SLOT - 1), channel, int(rng.integers(low, high)), 110)]


def _shots(rng: Random, low: int, high: int, channel: int) -> list[Note]:
    key, gap = int(rng.integers(low, high)), rng.uniform(0.15, 1.5)
    return [Note(n * gap, 0.1 + gap / 2, channel, key, 115) for n in range(int(rng.integers(1, 4)))]


_STYLES = {"melody": _melody, "chords": _chords, "drums": _drums, "long": _long, "shots": _shots}


def _band(rng: Random, label: str) -> Phrase:
    programs = {
        0: int(rng.choice([0, 4, 16, 25, 27, 29, 48, 50, 81, 89])),
        1: int(rng.choice([32, 33, 35, 38, 43])),
        2: int(rng.choice([11, 40, 56, 65, 73, 80, 81, 30, 52])),
        9: 0,
    }
    notes = [n._replace(velocity=int(n.velocity * 0.75)) for n in _chords(rng, 48, 68, 0)]
    notes += _melody(rng, 30, 46, 1)
    if rng.random() < 0.8:
        notes += _melody(rng, 58, 82, 2)
    if rng.random() < 0.75:
        notes += _drums(rng, 35, 57, 9)
    return Phrase(label, programs, notes)


def write_midi(path: Path, some: list[Phrase]) -> None:
    """A MIDI file with each phrase in its slot."""
    events: list[tuple[int, int, bytes]] = []
    for number, phrase in enumerate(some):
        at = int(number * SLOT * TICKS)
        for channel, program in phrase.programs.items():
            events.append((at, 0, bytes((0xB0 | channel, 120, 0))))  # what still sounds ends
            events.append((at, 1, bytes((0xC0 | channel, program))))
        for note in phrase.notes:
            start = at + 20 + int(note.start * TICKS)
            end = min(start + max(20, int(note.length * TICKS)), at + int((SLOT - 0.2) * TICKS))
            key = max(0, min(127, note.key))
            events.append((start, 3, bytes((0x90 | note.channel, key, note.velocity))))
            events.append((end, 2, bytes((0x80 | note.channel, key, 0))))
    events.append((int(len(some) * SLOT * TICKS), 4, bytes((0xB0, 120, 0))))
    body, now = b"", 0
    for tick, _, data in sorted(events):
        body, now = body + _varied(tick - now) + data, tick
    body += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 250)
    path.write_bytes(header + b"MTrk" + struct.pack(">I", len(body)) + body)


def _varied(number: int) -> bytes:
    out = [number & 0x7F]
    while number := number >> 7:
        out.append(0x80 | (number & 0x7F))
    return bytes(reversed(out))


def render(font: Path, midi: Path, wav: Path, rate: int) -> None:
    """Play `midi` with `font` into `wav`, without reverberation or chorus."""
    command = [
        "fluidsynth",
        "-ni",
        "-q",
        "-R",
        "0",
        "-C",
        "0",
        "-g",
        "0.4",
        "-r",
        str(rate),
        "-F",
        str(wav),
        str(font),
        str(midi),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
