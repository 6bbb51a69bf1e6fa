"""Speech from synthesisers: espeak-ng in many voices and languages, flite in six."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.sounds.waveforms import Random

LANGUAGES = [
    "en-gb",
    "en-us",
    "de",
    "fr",
    "es",
    "it",
    "pt",
    "nl",
    "sv",
    "da",
    "fi",
    "pl",
    "cs",
    "ru",
    "uk",
    "el",
    "tr",
    "hu",
    "ro",
    "ca",
    "hi",
    "id",
    "ja",
    "ko",
    "cmn",
    "sw",
    "la",
    "eo",
]
VARIANTS = (
    "",
    "+m1",
    "+m2",
    "+m3",
    "+m4",
    "+m5",
    "+m6",
    "+m7",
    "+f1",
    "+f2",
    "+f3",
    "+f4",
    "+f5",
    "+croak",
    "+whisper",
    "+Annie",
    "+Andy",
    "+Gene",
    "+klatt",
    "+klatt2",
    "+klatt3",
)
FLITE = ("kal", "kal16", "awb", "rms", "slt")
SENTENCES = (
    "Good morning, where does the next boat to the island leave?",
    "I have put the red cups on the shelf behind the door.",
    "We saw two dogs, a heron and not one single cloud today.",
    "Could you please tell me what this film is about?",
    "Yes.",
    "No, not yet.",
    "Come here!",
    "Thank you very much indeed.",
    "The museum opens at nine and closes when the last guest has left.",
    "My grandmother baked bread with rosemary on Sundays.",
    "Look at that mountain over there, it is still covered with snow.",
    "Ladies and gentlemen, the train on platform four departs in three minutes.",
)


def speak(rng: Random, wav: Path) -> None:
    """One utterance of a random voice into `wav`."""
    english = SENTENCES[int(rng.integers(len(SENTENCES)))]
    if rng.random() < 0.3:
        voice = FLITE[int(rng.integers(len(FLITE)))]
        stretch = f"duration_stretch={rng.uniform(0.8, 1.3):.2f}"
        command = ["flite", "-voice", voice, "--setf", stretch, "-t", english, "-o", str(wav)]
    else:
        language = str(rng.choice(LANGUAGES)) if rng.random() < 0.6 else "en-gb"
        numbers = " ".join(str(n) for n in rng.integers(0, 3000, int(rng.integers(1, 6))))
        voice = language + str(rng.choice(VARIANTS))
        command = [
            "espeak-ng",
            "-v",
            voice,
            "-s",
            str(rng.integers(110, 210)),
            "-p",
            str(rng.integers(15, 85)),
            "-w",
            str(wav),
            english if language.startswith("en") else numbers,
        ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
