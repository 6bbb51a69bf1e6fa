"""Whether an index takes sound and subtitles in, and with which encoder: settled when it is asked
for first, and the same from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from clipsearch.encoders import parse_spec
from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, UsageError
from clipsearch.ingest.options import AddOptions
from clipsearch.media.spec import AUDIO_WINDOW_SECONDS, AudioSpec
from clipsearch.store.manifest import AudioSettings
from clipsearch.store.store import Store

Load = Callable[[str], Encoder]  # an encoder spec → the encoder


def settle_sound(
    store: Store, options: AddOptions, encoder: Encoder, load: Load, *, new: bool
) -> AudioSettings | None:
    """How the index hears; settled when sound is asked for, or it comes with the encoder of a new
    index. None: it does not.

    Where sound is asked for expressly, and its encoder has other weights now than the index was
    made with, the settings name these: all sound is to be encoded anew.

    Raises UsageError for other settings than the index has, EncoderError for a model that takes no
    sound.
    """
    has = store.manifest.audio
    if has is not None:
        _check_alike(store, options, has)
        return _heard_anew(store, encoder, load, has) if options.audio else has
    wanted = options.audio
    if wanted is None:
        wanted = options.audio_model is not None or (new and encoder.supports_audio)
    if not wanted:
        return None
    own = store.manifest.encoder
    name = own if options.audio_model is None else str(parse_spec(options.audio_model))
    ear = encoder if name is None or name == own else load(name)
    if not ear.supports_audio:
        raise EncoderError(
            f"the model {ear.spec} takes no sound: give --audio-model clap, or another that does"
        )
    window = options.audio_window_seconds or AUDIO_WINDOW_SECONDS
    settings = AudioSettings(
        encoder=name or str(ear.spec),
        fingerprint=ear.audio_fingerprint,
        dim=ear.dim,
        window_seconds=window,
        hop_seconds=options.audio_hop_seconds or window / 2,
    )
    audio_spec(settings, ear)  # refuses windows that cannot be
    return settings


def settle_texts(store: Store, options: AddOptions, encoder: Encoder, *, new: bool) -> bool:
    """Whether subtitles are indexed; settled like sound. Raises UsageError and EncoderError."""
    has = store.manifest.texts
    if has and options.subtitles is False:
        raise UsageError(f"{store.folder} has subtitles: use another --index to go without them")
    wanted = has or (new and encoder.supports_text)
    if options.subtitles is not None:
        wanted = options.subtitles
    if wanted and not encoder.supports_text:
        raise EncoderError(f"the model {encoder.spec} takes no text, so no subtitles")
    return wanted


def audio_spec(settings: AudioSettings, ear: Encoder) -> AudioSpec:
    """How sound is cut for an encoder. Raises UsageError for windows that cannot be."""
    return AudioSpec(ear.sample_rate, settings.window_seconds, settings.hop_seconds)


def _heard_anew(store: Store, encoder: Encoder, load: Load, has: AudioSettings) -> AudioSettings:
    ear = encoder if has.encoder == store.manifest.encoder else load(has.encoder)
    alike = ear.audio_fingerprint == has.fingerprint or ear.dim != has.dim
    return has if alike else replace(has, fingerprint=ear.audio_fingerprint)


def _check_alike(store: Store, options: AddOptions, has: AudioSettings) -> None:
    if options.audio is False:
        raise UsageError(f"{store.folder} has sound: use another --index to go without it")
    given = options.audio_model
    if given is not None and str(parse_spec(given)) != has.encoder:
        raise UsageError(
            f"{store.folder} hears by {has.encoder}, not by {given}: use another --index"
        )
    for name, wanted, is_so in (
        ("windows", options.audio_window_seconds, has.window_seconds),
        ("hops", options.audio_hop_seconds, has.hop_seconds),
    ):
        if wanted is not None and wanted != is_so:
            raise UsageError(
                f"{store.folder} hears in {name} of {is_so:g} seconds, not {wanted:g}: use another "
                "--index"
            )
