"""The three sets of clips: made, decoded, played, and kept in WORKDIR/clips."""

from __future__ import annotations

import wave as wavefile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clipsearch.encoders.sound_classifier import RATE
from tools.sounds import music, say, speech
from tools.sounds.clips import Clip, clip_of, decode, recordings, save, trimmed, without_copies
from tools.sounds.files import TEST, TRAINING, VALIDATION
from tools.sounds.synth_birds import BIRDS
from tools.sounds.synth_machines import MACHINES
from tools.sounds.synth_nature import NATURE
from tools.sounds.synth_things import THINGS
from tools.sounds.synth_voices import VOICES
from tools.sounds.waveforms import Random, Wave, between, put, room, unit

SYNTHESISED = {**NATURE, **VOICES, **BIRDS, **MACHINES, **THINGS}
MADE = 180  # waves of each synthesised class
VARIANTS = 24  # of each recording: played faster, slower, repeated, in a room
UTTERANCES = 400
TRAINING_SETS = ("played", "played_more", "synthesised", "spoken", "varied")
SOUNDFONTS = {  # split: [(package, file, phrases of each class)]
    "training": [
        ("fluid-soundfont-gm", "FluidR3_GM.sf2", 110),
        ("musescore-general-soundfont", "MuseScore_General_Full.sf3", 110),
    ],
    "validation": [
        ("minuet-data", "GeneralUser-v1.47.sf2", 12),
        ("denemo-data", "A320U.sf2", 10),
    ],
    "test": [
        ("timgm6mb-soundfont", "TimGM6mb.sf2", 10),
        ("csound-soundfont", "sf_GMbank.sf2", 10),
    ],
}


def build(workdir: Path) -> None:
    """Make the files of WORKDIR/clips from WORKDIR/sources; what is there stays."""
    folder = workdir / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    makers = (_played, _played_more, _synthesised, _spoken, _varied)
    steps = dict(zip(TRAINING_SETS, makers, strict=True))
    for name, step in steps.items():
        if not (folder / f"{name}.npz").exists():
            save(folder / f"{name}.npz", list(step(workdir)))
            say(f"made {name}")
    if not (folder / "test.npz").exists():
        held_out(workdir)


def held_out(workdir: Path) -> None:
    """Make WORKDIR/clips/{validation,test}.npz: real recordings, and other soundfonts."""
    folder, sources = workdir / "clips", workdir / "sources"
    known = [clip_of(w, a, b, c) for a, b, c, w in recordings(sources, TRAINING)]
    validation = [clip_of(w, a, b, c) for a, b, c, w in recordings(sources, VALIDATION)]
    validation = without_copies(validation, known)
    test = [clip_of(w, a, b, c) for a, b, c, w in recordings(sources, TEST)]
    test = without_copies(test, known + validation)
    for split, clips in (("validation", validation), ("test", test)):
        for number, (package, file, each) in enumerate(SOUNDFONTS[split]):
            rng = np.random.default_rng([7, len(split), number])
            parts = {k: v for k, v in music.INSTRUMENTS.items() if k != "music"}
            some = music.phrases(rng, parts, each)
            rng = np.random.default_rng([9, len(split), number])
            some += music.phrases(rng, music.MORE_INSTRUMENTS, each)
            clips += _font(workdir, package, file, some)
        save(folder / f"{split}.npz", clips)


def _synthesised(workdir: Path) -> Iterator[Clip]:
    for label, make in SYNTHESISED.items():
        for number in range(MADE):
            rng = np.random.default_rng([1, *label.encode(), number])
            yield clip_of(make(rng), label, "synthesised", str(number))


def _spoken(workdir: Path) -> Iterator[Clip]:
    path = workdir / "spoken.wav"
    for number in range(UTTERANCES):
        rng = np.random.default_rng([2, number])
        speech.speak(rng, path)
        wave = decode(path)
        if len(wave):
            yield clip_of(_variant(rng, wave), "people talking", "spoken", str(number))


def _played(workdir: Path) -> Iterator[Clip]:
    for number, (package, file, each) in enumerate(SOUNDFONTS["training"]):
        rng = np.random.default_rng([3, number])
        some = music.phrases(rng, music.INSTRUMENTS, each)
        some += music.phrases(rng, music.EFFECTS, each // 4)
        yield from _font(workdir, package, file, some, rng)


def _played_more(workdir: Path) -> Iterator[Clip]:
    for number, (package, file, each) in enumerate(SOUNDFONTS["training"]):
        rng = np.random.default_rng([8, number])
        some = music.phrases(rng, music.MORE_INSTRUMENTS, each)
        yield from _font(workdir, package, file, some, rng)


def _font(
    workdir: Path, package: str, file: str, some: list[music.Phrase], rng: Random | None = None
) -> list[Clip]:
    """The phrases as that soundfont plays them; in rooms if there is `rng`."""
    font = next((workdir / "sources" / package).rglob(file))
    midi, wav = workdir / f"{package}.mid", workdir / f"{package}.wav"
    clips = []
    for start in range(0, len(some), 700):
        music.write_midi(midi, some[start : start + 700])
        music.render(font, midi, wav, RATE)
        with wavefile.open(str(wav)) as opened:
            both = np.frombuffer(opened.readframes(opened.getnframes()), "<i2").reshape(-1, 2)
        mono, slot = both.mean(axis=1).astype("f4"), int(music.SLOT * RATE)
        for number, phrase in enumerate(some[start : start + 700]):
            part = trimmed(mono[number * slot : (number + 1) * slot])
            if len(part) < RATE // 10:
                continue
            if rng is not None:
                part = room(rng, unit(part), between(rng, 0.03, 0.4), rng.uniform(0, 0.6))
            clips.append(clip_of(part, phrase.label, package, f"{start + number}"))
    return clips


def _varied(workdir: Path) -> Iterator[Clip]:
    keys: list[Wave] = []
    for label, package, name, wave in recordings(workdir / "sources", TRAINING):
        if label == "typing":
            keys.append(unit(wave[: RATE // 2]))
            continue
        for number in range(VARIANTS):
            rng = np.random.default_rng([4, *name.encode(), number])
            yield clip_of(_variant(rng, wave), label, package, f"{name} {number}")
    for number in range(MADE):
        yield clip_of(
            _typed(np.random.default_rng([5, number]), keys),
            "typing",
            "keyboardsounds",
            str(number),
        )


def _variant(rng: Random, wave: Wave) -> Wave:
    """A stretch of `wave`, at another speed, in a room, sometimes twice."""
    if len(wave) > 3 * RATE:
        start = int(rng.integers(0, len(wave) - 2 * RATE))
        wave = wave[start : start + int(rng.uniform(2, 8) * RATE)]
    speed = between(rng, 0.75, 1.33)
    at = np.arange(0, len(wave) - 1, speed)
    wave = np.interp(at, np.arange(len(wave)), wave).astype("f4")
    if len(wave) < 2 * RATE and rng.random() < 0.5:
        pause = np.zeros(int(rng.uniform(0.05, 0.8) * RATE), dtype="f4")
        wave = np.concatenate([wave, pause, wave * rng.uniform(0.5, 1)])
    return room(rng, wave, between(rng, 0.02, 0.3), rng.uniform(0, 0.5)).astype("f4")


def _typed(rng: Random, keys: list[Wave]) -> Wave:
    out, at = np.zeros(int(rng.uniform(0.4, 5) * RATE), dtype="f4"), 0.0
    pick = rng.integers(0, len(keys), 5)
    pace = rng.uniform(0.08, 0.4)
    while at < len(out) / RATE:
        put(out, keys[int(rng.choice(pick))], at, rng.uniform(0.4, 1))
        at += pace * rng.uniform(0.6, 1.6)
    return room(rng, out, 0.05, rng.uniform(0, 0.4)).astype("f4")
