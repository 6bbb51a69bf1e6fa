"""Specs, the registry, devices, "auto", and the arithmetic that the encoders share."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clipsearch.encoders import (
    ENCODERS,
    EncoderSpec,
    auto,
    load_encoder,
    parse_spec,
    resolve_auto,
)
from clipsearch.encoders.geometry import MAX_STRETCH, Geometry
from clipsearch.encoders.values import plain_text, unit_rows
from clipsearch.errors import EncoderError, UsageError


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("builtin", EncoderSpec("builtin")),
        ("fake", EncoderSpec("fake")),
        ("fake:064", EncoderSpec("fake", "64")),
        ("openclip:ViT-B-32/tag", EncoderSpec("openclip", "ViT-B-32/tag")),
        (" ViT-B-32/tag\n", EncoderSpec("openclip", "ViT-B-32/tag")),
        ("clip4clip:/abs/odd:na me/bin.4", EncoderSpec("clip4clip", "/abs/odd:na me/bin.4")),
        ("hf-hub:org/name", EncoderSpec("openclip", "hf-hub:org/name")),
        ("openclip:hf-hub:org/name", EncoderSpec("openclip", "hf-hub:org/name")),
        ("ViT-B-32//abs/path.pt", EncoderSpec("openclip", "ViT-B-32//abs/path.pt")),
        ("ViT-B-32//odd:na me/x.pt", EncoderSpec("openclip", "ViT-B-32//odd:na me/x.pt")),
    ],
)
def test_specs_parse_and_round_trip(text: str, spec: EncoderSpec) -> None:
    assert parse_spec(text) == spec
    assert parse_spec(str(spec)) == spec


def test_relative_checkpoints_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert parse_spec("M/./rel.pt").name == f"M/{tmp_path}/rel.pt"
    assert parse_spec("M/../rel.pt").name == f"M/{tmp_path.parent}/rel.pt"
    assert parse_spec("M/~/rel.pt").name == f"M/{tmp_path}/home/rel.pt"
    assert parse_spec("clip4clip:rel.bin").name == f"{tmp_path}/rel.bin"
    assert parse_spec("clip4clip:~/rel.bin").name == f"{tmp_path}/home/rel.bin"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ViT-B-32",
        "openclip:",
        "openclip:ViT-B-32",
        "nope:x",
        "builtin:x",
        "fake:",
        "fake:7",
        "fake:x",
        "hf-hub:",
        "hf-hub:org",
        "/abs",
        "clip4clip",
        "clip4clip:",
        "auto",
        "auto:x",
        "other:ViT-B-32/tag",
    ],
)
def test_bad_specs_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_spec(text)


def test_auto_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="resolve"):
        parse_spec("auto")


def test_unknown_family_and_device_are_refused() -> None:
    with pytest.raises(UsageError, match="builtin, openclip, clip4clip, fake"):
        load_encoder(EncoderSpec("nope"))
    names = {"openclip": "x/y", "clip4clip": "/x"}
    for family in ENCODERS:
        with pytest.raises(UsageError, match="use auto, cpu"):
            load_encoder(EncoderSpec(family, names.get(family, "")), device="tpu")


def test_an_absent_device_is_an_error_not_the_cpu() -> None:
    with pytest.raises(EncoderError, match="cuda:99"):
        load_encoder(parse_spec("builtin"), device="cuda:99")


@pytest.mark.parametrize(
    "code",
    [
        "import clipsearch.encoders",
        "from clipsearch.encoders import *; load_encoder(parse_spec('fake')).encode_text(['x'])",
        "from clipsearch.encoders import *; load_encoder(parse_spec('builtin')).encode_text(['x'])",
        "from clipsearch.encoders import *; resolve_auto(offline=True)",
    ],
)
def test_no_torch_where_none_is_needed(code: str) -> None:
    check = "import sys; print([m for m in ('torch', 'timm', 'open_clip') if m in sys.modules])"
    command = [sys.executable, "-W", "error", "-c", f"{code}\n{check}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_builtin_and_fake_open_no_socket() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise SystemExit('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import numpy as np\n"
        "from clipsearch.encoders import *\n"
        "for name in ('fake', 'builtin'):\n"
        "    e = load_encoder(parse_spec(name), device='cpu')\n"
        "    e.encode_images([e.prepare(np.zeros((9, 9, 3), np.uint8))]), e.encode_text(['x'])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# "auto"


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def never(*args: object, **kwargs: object) -> bool:
    raise AssertionError("the network was reached")


def test_auto_takes_cached_clip_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    (weights / "snapshots" / "c0").mkdir(parents=True)
    (weights / "refs").mkdir()
    (weights / "refs" / "main").write_text("c0")
    (weights / "snapshots" / "c0" / auto.CLIP_FILES[1]).write_bytes(b"x")
    from huggingface_hub import try_to_load_from_cache

    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repo, file: try_to_load_from_cache(repo, file, cache_dir=tmp_path),
    )
    monkeypatch.setattr(auto, "hub_answers", never)
    assert resolve_auto(offline=True) == (auto.CLIP_SPEC, None)
    assert resolve_auto(offline=False) == (auto.CLIP_SPEC, None)


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("by_client", [False, True])
def test_auto_offline_is_builtin_without_the_network(
    by_client: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "hub_answers", never)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", by_client)
    spec, message = resolve_auto(offline=not by_client)
    assert spec == EncoderSpec("builtin")
    assert message is not None
    assert "network is off" in message
    assert auto.CLIP_SPEC.name in message
    assert "\n" not in message


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("answers", [False, True])
def test_auto_online_follows_the_hub(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "hub_answers", lambda *a, **k: answers)
    spec, message = resolve_auto(offline=False)
    assert spec == (auto.CLIP_SPEC if answers else EncoderSpec("builtin"))
    assert (message is None) == answers


class Hub(http.server.BaseHTTPRequestHandler):
    status, headers_out, delay_seconds = 200, {"X-Repo-Commit": "c0"}, 0.0

    def do_HEAD(self) -> None:
        time.sleep(self.delay_seconds)
        self.send_response(self.status)
        for name, value in self.headers_out.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {"X-Repo-Commit": "c0"}, True),
        (302, {"X-Repo-Commit": "c0", "Location": "http://127.0.0.1:1/storage"}, True),
        (200, {}, False),  # a captive portal
        (404, {"X-Repo-Commit": "c0"}, False),
        (503, {}, False),
    ],
)
def test_the_hub_is_known_by_its_header(
    status: int,
    headers: dict[str, str],
    expected: bool,
    hub: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Hub, "status", status)
    monkeypatch.setattr(Hub, "headers_out", headers)
    assert auto.hub_answers(hub, timeout_seconds=5) is expected
    assert auto.hub_reachable(hub, timeout_seconds=5)


def test_a_slow_hub_and_a_hanging_look_up_are_left_behind(
    hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "delay_seconds", 0.5)
    assert not auto.hub_answers(hub, timeout_seconds=0.1)
    look_up = lambda *a, **k: time.sleep(1.0) or {"X-Repo-Commit": "1"}  # noqa: E731
    monkeypatch.setattr(auto, "_headers", look_up)  # as getaddrinfo can
    start = time.monotonic()
    assert not auto.hub_answers(hub, timeout_seconds=0.1)
    assert not auto.hub_reachable(hub, timeout_seconds=0.1)
    assert time.monotonic() - start < 0.9


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "nonsense", "http://[bad"])
def test_no_hub_at_all(endpoint: str) -> None:
    assert not auto.hub_answers(endpoint, timeout_seconds=5)
    assert not auto.hub_reachable(endpoint, timeout_seconds=5)


def test_constants_agree_with_open_clip() -> None:
    import open_clip
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    model, tag = auto.CLIP_SPEC.name.split("/")
    config = open_clip.get_pretrained_cfg(model, tag)
    assert config["hf_hub"] == f"{auto.CLIP_REPOSITORY}/"  # the slash: the default file names
    assert auto.CLIP_FILES == (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)


# shared arithmetic


def test_unit_rows_have_no_nan_for_zeros() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0], [1e30, 0.0]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [1, 0], [1, 0], [1, 0]], rtol=1e-6)
    assert unit_rows(np.zeros((0, 5))).shape == (0, 5)


def test_plain_text_takes_any_command_line() -> None:
    assert plain_text("caf\udce9 ☕") == "caf? ☕"


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1), (1, 20000), (2, 5000)])
def test_odd_pictures_take_little_memory(mode: str, size: tuple[int, int]) -> None:
    geometry = Geometry((297, 297), (260, 260), mode=mode)  # type: ignore[arg-type]
    pixels = np.full((*size, 3), 200, dtype=np.uint8)
    result = geometry.apply(pixels)
    assert result.shape == (260, 260, 3)
    if mode != "longest":
        assert (result == 200).all()


@pytest.mark.parametrize("size", [(40, 900), (900, 40), (31, 1000)])
def test_the_part_of_a_long_picture_is_that_of_the_whole(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    waves = [np.sin(np.arange(n) / 7)[:, None] for n in size]
    smooth = 128 + 50 * waves[0] + 50 * waves[1].T  # noise would be clipped in another order
    pixels = np.stack([smooth, smooth / 2, 255 - smooth], axis=2).astype(np.uint8)
    geometry = Geometry((64, 64), (64, 64))
    height, width = geometry.resized(*size)
    assert height * width > MAX_STRETCH * 64 * 64
    part = geometry.apply(pixels).astype(int)
    monkeypatch.setattr("clipsearch.encoders.geometry.MAX_STRETCH", 10**6)
    assert np.abs(part - geometry.apply(pixels)).max() <= 1


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match="need \\(height, width, 3\\) uint8"):
        Geometry((8, 8), (8, 8)).apply(pixels)
