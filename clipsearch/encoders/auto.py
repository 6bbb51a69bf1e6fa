"""Which encoder to use when the user names none: CLIP if it can be had, else the built-in one."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from typing import Any

from clipsearch.encoders.base import EncoderSpec
from clipsearch.encoders.spec import parse_spec

AUTO = "auto"
CLIP_SPEC = EncoderSpec("openclip", "ViT-B-32/laion2b_s34b_b79k")
CLIP_REPOSITORY = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"  # as open_clip has it; a test compares
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HUB_TIMEOUT_SECONDS = 3.0


def resolve(model: str, *, offline: bool, on_notice: Callable[[str], None]) -> EncoderSpec:
    """The encoder that a user means by `model`; what "auto" came to be is told to `on_notice`.

    Raises UsageError for a name that no encoder has.
    """
    if model != AUTO:
        return parse_spec(model)
    spec, notice = resolve_auto(offline=offline)
    if notice is not None:
        on_notice(notice)
    return spec


def resolve_auto(*, offline: bool) -> tuple[EncoderSpec, str | None]:
    """The encoder that "auto" means here and now, and a line to show to the user, or None.

    CLIP if its weights are in the Hugging Face cache, or if the hub answers within 3 seconds (the
    download follows when it is loaded); else "builtin". With `offline`, or the hub client's own
    HF_HUB_OFFLINE, only the cache is looked at. Loads neither torch nor open_clip.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    for file in CLIP_FILES:
        if isinstance(try_to_load_from_cache(CLIP_REPOSITORY, file), str):
            return CLIP_SPEC, None
    if offline or constants.HF_HUB_OFFLINE:
        return EncoderSpec("builtin"), (
            "using the built-in encoder: CLIP's weights are not on this machine and the network is"
            f" off; run once online with --model {CLIP_SPEC.name} for better results"
        )
    if hub_answers(constants.ENDPOINT, timeout_seconds=HUB_TIMEOUT_SECONDS):
        return CLIP_SPEC, None
    return EncoderSpec("builtin"), (
        f"using the built-in encoder: {constants.ENDPOINT} did not answer; where it can be reached,"
        f" --model {CLIP_SPEC.name} downloads CLIP for better results"
    )


def hub_answers(endpoint: str, *, timeout_seconds: float) -> bool:
    """Whether the hub at `endpoint` has CLIP. It names a commit; a captive portal does not."""
    url = f"{endpoint}/{CLIP_REPOSITORY}/resolve/main/{CLIP_FILES[0]}"
    return _in_time(
        lambda: "X-Repo-Commit" in (_headers(url, timeout_seconds) or ()), timeout_seconds
    )


def hub_reachable(endpoint: str, *, timeout_seconds: float = HUB_TIMEOUT_SECONDS) -> bool:
    """Whether anything answers at `endpoint`: before a client that tries for a minute is let go."""
    return _in_time(
        lambda: _headers(endpoint, timeout_seconds, any_code=True) is not None, timeout_seconds
    )


def _in_time(question: Callable[[], bool], timeout_seconds: float) -> bool:
    """The answer, or False when time is up, name look-up included.

    A socket's own timeout does not bound the look-up, nor a slow trickle of bytes; so the question
    is asked in a thread that is left behind when time is up.
    """
    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(question()), daemon=True)
    asking.start()
    asking.join(timeout_seconds)
    return answers == [True]


def _headers(url: str, timeout_seconds: float, *, any_code: bool = False) -> Message | None:
    """What `url` answers with, a redirect's own headers; None for no answer or an error."""
    opener = urllib.request.build_opener(_StayHere)
    try:
        request = urllib.request.Request(url, method="HEAD")
        with opener.open(request, timeout=timeout_seconds) as answer:
            headers: Message = answer.headers
            return headers
    except urllib.error.HTTPError as answer:  # a redirect to the storage is the usual answer
        with answer:
            return answer.headers if any_code or answer.code < 400 else None
    except (OSError, ValueError):
        return None


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Takes a redirect as the answer."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None
