"""The four heads: against the authors' scores, and against plain loops in float64."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from clipsearch import heads
from clipsearch.errors import UsageError
from clipsearch.heads import (
    HEADS,
    POOLINGS,
    Head,
    MeanHead,
    SeqTransfHead,
    TightHead,
    from_state_dict,
)
from clipsearch.heads import apply as heads_apply
from clipsearch.heads.apply import pool, sampled, score_videos
from clipsearch.types import check_unit_rows
from tests.made_heads import DEPTH, DIM, batch, made

Array = np.ndarray
REFERENCE = Path(__file__).parents[2] / "shared" / "data" / "clip4clip_reference.npz"
REFERENCE_NAMES = {
    "mean": "meanP",
    "seqlstm": "seqLSTM",
    "seqtransf": "seqTransf",
    "tight": "tightTransf",
}


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> Head:
    return made(request.param)


@pytest.fixture(params=POOLINGS)
def pooling(request: pytest.FixtureRequest) -> Head:
    return made(request.param)


# the authors' scores


@pytest.fixture(scope="module")
def reference() -> Mapping[str, Array]:
    if not REFERENCE.is_file():
        pytest.skip(f"{REFERENCE.name} of the authors' modules is not beside the repository")
    with np.load(REFERENCE) as file:
        return dict(file)


def reference_head(reference: Mapping[str, Array], name: str) -> Head:
    start = f"{REFERENCE_NAMES[name]}/state/"
    state = {n[len(start) :]: torch.from_numpy(v) for n, v in reference.items() if start in n}
    if name == "mean":  # without weights: the width comes from CLIP
        state = {"clip.text_projection": torch.zeros(7, DIM)}
    return from_state_dict(state)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("size", ["", "_small"])
def test_scores_are_the_authors(
    name: str, grad: bool, size: str, reference: Mapping[str, Array]
) -> None:
    head = reference_head(reference, name)
    assert head.name == name
    text, frames = (
        torch.from_numpy(reference[f"inputs/{kind}{size}"]) for kind in ("text", "frames")
    )
    scale = float(np.exp(reference[f"{REFERENCE_NAMES[name]}/logit_scale"]))
    mask = torch.from_numpy(reference["inputs/video_mask"])
    with torch.set_grad_enabled(grad):
        scores = head.score(text.squeeze(1), frames, mask, logit_scale=scale)
    expected = reference[f"{REFERENCE_NAMES[name]}/sim{size}"]
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["seqtransf", "tight"])
def test_the_epsilon_of_clip_would_miss_the_authors_scores(
    name: str, reference: Mapping[str, Array]
) -> None:
    head = reference_head(reference, name)
    norms = [m for m in head.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-12}
    for norm in norms:
        norm.eps = 1e-5
    text, frames, mask = (
        torch.from_numpy(reference[f"inputs/{n}"])
        for n in ("text_small", "frames_small", "video_mask")
    )
    scale = float(np.exp(reference[f"{REFERENCE_NAMES[name]}/logit_scale"]))
    scores = head.score(text.squeeze(1), frames, mask, logit_scale=scale).detach().numpy()
    expected = reference[f"{REFERENCE_NAMES[name]}/sim_small"]
    assert np.abs(scores - expected).max() > 1e-4


# plain loops in float64


def naive_norm(x: Array, weights: Mapping[str, Array], name: str) -> Array:
    variance = ((x - x.mean()) ** 2).mean()
    scaled = (x - x.mean()) / np.sqrt(variance + 1e-12)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def naive_gelu(x: Array) -> Array:
    return x / (1 + np.exp(-1.702 * x))


def naive_block(rows: Array, weights: Mapping[str, Array], name: str) -> Array:
    """One residual block on the rows (L, D) of one video: token by token, head by head."""
    dim = rows.shape[1]
    inside = np.array([naive_norm(row, weights, f"{name}.ln_1") for row in rows])
    q, k, v = np.split(
        inside @ weights[f"{name}.attn.in_proj_weight"].T + weights[f"{name}.attn.in_proj_bias"],
        3,
        axis=1,
    )
    mixed = np.zeros_like(rows)
    for start in range(0, dim, 64):
        part = slice(start, start + 64)
        for i in range(len(rows)):
            logits = np.array([q[i, part] @ k[j, part] / 8 for j in range(len(rows))])
            share = np.exp(logits - logits.max())
            mixed[i, part] = sum(s * v[j, part] for j, s in enumerate(share / share.sum()))
    rows = rows + mixed @ weights[f"{name}.attn.out_proj.weight"].T
    rows = rows + weights[f"{name}.attn.out_proj.bias"]
    inner = np.array([naive_norm(row, weights, f"{name}.ln_2") for row in rows])
    inner = inner @ weights[f"{name}.mlp.c_fc.weight"].T + weights[f"{name}.mlp.c_fc.bias"]
    inner = naive_gelu(inner) @ weights[f"{name}.mlp.c_proj.weight"].T
    return rows + inner + weights[f"{name}.mlp.c_proj.bias"]


def naive_lstm(rows: Array, weights: Mapping[str, Array]) -> Array:
    dim = rows.shape[1]
    hidden, cell, states = np.zeros(dim), np.zeros(dim), []
    for row in rows:
        gates = weights["lstm_visual.weight_ih_l0"] @ row + weights["lstm_visual.bias_ih_l0"]
        gates += weights["lstm_visual.weight_hh_l0"] @ hidden + weights["lstm_visual.bias_hh_l0"]
        to_add, to_keep, shown = (1 / (1 + np.exp(-gates.reshape(4, dim)[i])) for i in (0, 1, 3))
        cell = to_keep * cell + to_add * np.tanh(gates.reshape(4, dim)[2])
        hidden = shown * np.tanh(cell)
        states.append(hidden)
    return np.array(states)


def naive_states(name: str, frames: Array, weights: Mapping[str, Array]) -> Array:
    if name == "mean":
        return frames
    if name == "seqlstm":
        return naive_lstm(frames, weights) + frames
    rows = frames + weights["frame_position_embeddings.weight"][: len(frames)]
    for i in range(DEPTH):
        rows = naive_block(rows, weights, f"transformerClip.resblocks.{i}")
    return rows + frames


def naive_score(name: str, text: Array, frames: Array, weights: Mapping[str, Array]) -> float:
    """The score of one text (D,) and the real frames (n, D) of one video."""
    if name == "tight":
        rows = np.vstack([text, frames])
        rows = rows + weights["cross.embeddings.position_embeddings.weight"][: len(rows)]
        for i in range(DEPTH):
            rows = naive_block(rows, weights, f"cross.transformer.resblocks.{i}")
        pooled = naive_norm(rows[0], weights, "cross.pooler.ln_pool")
        pooled = weights["cross.pooler.dense.weight"] @ pooled
        pooled = naive_gelu(pooled + weights["cross.pooler.dense.bias"])
        scores = weights["similarity_dense.weight"] @ pooled + weights["similarity_dense.bias"]
        return float(scores[0])
    units = [state / np.linalg.norm(state) for state in naive_states(name, frames, weights)]
    mean = np.mean(units, axis=0)
    return float(text @ mean / np.linalg.norm(mean) / np.linalg.norm(text))


def test_scores_are_those_of_plain_loops(head: Head) -> None:
    head = copy.deepcopy(head).double()
    text, frames, mask = batch()
    weights = {n: v.detach().numpy() for n, v in head.state_dict().items()}
    expected = [
        [
            naive_score(head.name, one.numpy(), shots[real].numpy(), weights)
            for shots, real in zip(frames.double(), mask, strict=True)
        ]
        for one in text.double()
    ]
    scores = head.score(text.double(), frames.double(), mask).detach().numpy()
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-11)


# padding, batches and order


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1e30, 123.0])
@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_what_is_in_padded_frames_changes_nothing(
    junk: float, kind: torch.dtype, head: Head
) -> None:
    text, frames, mask = batch()
    dirty = frames.clone()
    dirty[~mask] = junk
    clean = frames.clone()
    clean[~mask] = 0.0
    assert torch.equal(head.score(text, dirty, mask.to(kind)), head.score(text, clean, mask))


def test_junk_in_padding_does_not_reach_the_gradients(head: Head) -> None:
    text, frames, mask = batch()
    frames[~mask] = float("nan")
    frames.requires_grad_(True)
    head.score(text, frames, mask).square().sum().backward()
    assert frames.grad is not None
    assert frames.grad[mask].isfinite().all()
    assert (frames.grad[~mask] == 0).all()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


def test_one_video_at_a_time_and_without_padding_is_the_same(head: Head) -> None:
    text, frames, mask = batch(6, 8)
    with torch.inference_mode():
        together = head.score(text, frames, mask)
        for i, real in enumerate(mask):
            alone = head.score(text, frames[i : i + 1, real], mask[i : i + 1, real])
            torch.testing.assert_close(alone[:, 0], together[:, i], rtol=5e-6, atol=5e-6)


def test_more_pairs_than_are_scored_at_once_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    head = made("tight")
    text, frames, mask = batch()
    with torch.inference_mode():
        expected = head.score(text, frames, mask)
        monkeypatch.setattr("clipsearch.heads.modules.PAIRS_AT_ONCE", 3)
        torch.testing.assert_close(head.score(text, frames, mask), expected, rtol=0, atol=5e-6)


def test_an_inner_product_ranks_as_the_score(pooling: Head) -> None:
    text, frames, mask = batch(40, 5)
    with torch.inference_mode():
        rows = pooling.encode(frames, mask).numpy()
        scores = pooling.score(text, frames, mask, logit_scale=25.0).numpy()
    check_unit_rows(rows)
    asked = text.numpy() / np.linalg.norm(text.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(scores, 25 * (asked @ rows.T), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(
        np.argsort(-scores, axis=1, kind="stable"), np.argsort(-asked @ rows.T, axis=1)
    )


def test_only_the_mean_is_blind_to_the_order(head: Head) -> None:
    text, frames, _ = batch()
    mask = torch.ones(frames.shape[:2])
    there, back = head.score(text, frames, mask), head.score(text, frames.flip(1), mask)
    difference = (there - back).abs().max()
    assert (difference < 1e-6) == (head.name == "mean")


def test_no_texts_and_no_videos_give_no_scores(head: Head) -> None:
    text, frames, mask = batch()
    assert head.score(text[:0], frames, mask).shape == (0, 4)
    assert head.score(text, frames[:0], mask[:0]).shape == (5, 0)


def test_half_precision_frames_are_read_in_full(head: Head) -> None:
    text, frames, mask = batch()
    scores = head.score(text.half(), frames.half(), mask)
    assert scores.dtype == torch.float32
    expected = head.score(text.half().float(), frames.half().float(), mask)
    assert torch.equal(scores, expected)


def test_gradients_reach_all_that_takes_part(head: Head) -> None:
    text, frames, mask = batch()
    frames.requires_grad_(True)
    text.requires_grad_(True)
    head.score(text, frames, mask, logit_scale=torch.tensor(3.0)).square().sum().backward()
    without = {n for n, p in head.named_parameters() if p.grad is None or not p.grad.any()}
    unused = {"frame_position_embeddings.weight"} if head.name == "seqlstm" else set()
    assert without == unused
    assert frames.grad is not None
    assert (frames.grad[mask].abs().amax(dim=1) > 0).all()
    assert text.grad is not None
    assert text.grad.any()


def test_scores_keep_their_digits_under_autocast(pooling: Head) -> None:
    text, frames, mask = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = pooling.score(text, frames, mask)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, pooling.score(text, frames, mask), rtol=0, atol=2e-2)


# frames without a direction


def test_a_frame_of_zeros_is_a_zero_vector(head: Head) -> None:
    text, frames, mask = batch()
    frames[3, 2:4] = 0.0
    scores = head.score(text, frames, mask)
    assert scores.isfinite().all()
    if head.name == "mean":
        without = torch.cat([frames[3:, :2], frames[3:, 4:]], dim=1)
        expected = head.score(text, without, torch.ones(1, 4))
        torch.testing.assert_close(scores[:, 3:], expected, rtol=0, atol=5e-6)


def test_frames_that_cancel_give_the_first_and_nothing_gives_the_first_axis() -> None:
    _, frames, _ = batch(3, 3)
    frames[0] = 0.0
    frames[1, 0] = 0.0
    frames[1, 2] = -3 * frames[1, 1]
    frames[2, :] = frames[2, :1]
    mask = torch.ones(3, 3)
    frames.requires_grad_(True)
    rows = MeanHead(DIM).encode(frames, mask)
    expected = [torch.eye(1, DIM)[0], frames[1, 1], frames[2, 0]]
    for row, direction in zip(rows, expected, strict=True):
        torch.testing.assert_close(row, direction / direction.norm())
    rows.sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()


def test_two_frames_that_nearly_cancel_keep_their_mean() -> None:
    axis, side = torch.eye(2, 64)
    frames = torch.stack([axis, -axis + 1e-3 * side])[None]
    row = MeanHead(64).encode(frames, torch.ones(1, 2))[0]
    assert row @ side > 0.999


# refusals


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, f, m: (t, f[..., :64], m), r"frames of shape \(4, 6, 64\).*\(videos, frames, "),
        (lambda t, f, m: (t, f[0], m), "frames of shape"),
        (lambda t, f, m: (t, f.int(), m), "torch.int32"),
        (lambda t, f, m: (t, f, m[:, :5]), r"mask of shape \(4, 5\)"),
        (
            lambda t, f, m: (t, f, m.clone().index_fill_(0, torch.tensor([2]), False)),
            "video 2 .*no",
        ),
        (lambda t, f, m: (t, f[:, :0], m[:, :0]), "video 0, 1, 2, 3 of the batch has no real"),
        (lambda t, f, m: (t, f, m.flip(1)), "video 0, 1, 2 .*padding before a frame"),
        (lambda t, f, m: (t, f.index_fill(1, torch.tensor(0), float("nan")), m), "NaN or infinite"),
        (lambda t, f, m: (t[0], f, m), r"text of shape \(128,\)"),
        (lambda t, f, m: (t[:, 1:], f, m), r"text of shape \(5, 127\)"),
        (lambda t, f, m: (t * float("inf"), f, m), "text's vector is NaN"),
    ],
)
def test_what_does_not_fit_is_refused(
    spoil: Callable[..., tuple[torch.Tensor, ...]], message: str, head: Head
) -> None:
    with pytest.raises(UsageError, match=message):
        head.score(*spoil(*batch()))


def test_too_many_frames_are_refused_and_max_frames_is_kept_in_bounds(head: Head) -> None:
    limits = {"mean": None, "seqlstm": 9, "seqtransf": 9, "tight": 8}
    assert head.max_frames == limits[head.name]
    text, frames, _ = batch(2, 10)
    mask = torch.ones(2, 10)
    if head.name == "mean":
        head.score(text, frames, mask)
    else:
        with pytest.raises(UsageError, match=rf"10 frames.*takes {head.max_frames} at most.*sampl"):
            head.score(text, frames, mask)
        for bad in (0, None, head.max_frames + 1):
            with pytest.raises(UsageError, match=rf"max_frames {bad}.*1 to {head.max_frames}"):
                head.max_frames = bad
    head.max_frames = 4
    head.score(text, frames[:, :4], mask[:, :4])
    with pytest.raises(UsageError, match="5 frames"):
        head.score(text, frames[:, :5], mask[:, :5])


@pytest.mark.parametrize("make", [SeqTransfHead, TightHead])
@pytest.mark.parametrize("dim", [0, 63, 100])
def test_widths_that_attention_cannot_split_are_refused(
    make: type[SeqTransfHead | TightHead], dim: int
) -> None:
    with pytest.raises(UsageError, match=f"width {dim}: use a multiple of 64"):
        make(dim)


# arrays


@pytest.mark.parametrize(("count", "most"), [(0, 5), (5, 5), (6, 5), (100, 12), (3, 1), (78, 77)])
def test_sampling_is_the_authors(count: int, most: int) -> None:
    chosen = sampled(count, most)
    expected = range(count) if count <= most else np.linspace(0, count - 1, most).astype(int)
    np.testing.assert_array_equal(chosen, expected)
    assert chosen.dtype == np.int64


def test_sampling_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="0 of 5"):
        sampled(5, 0)


def lists(lengths: list[int]) -> list[Array]:
    rng = np.random.default_rng(1)
    return [3 * rng.standard_normal((n, DIM)).astype(np.float32) for n in lengths]


def test_lists_of_any_lengths_pool_as_one_at_a_time(
    pooling: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_apply, "FRAMES_AT_ONCE", 20)
    videos = lists([3, 1, 9, 2, 9, 1, 40, 6, 5, 100])
    rows = pool(pooling, videos)
    check_unit_rows(rows)
    for row, video in zip(rows, videos, strict=True):
        np.testing.assert_allclose(pool(pooling, [video])[0], row, rtol=0, atol=5e-6)
        chosen = video if pooling.max_frames is None else video[sampled(len(video), 9)]
        one = pooling.encode(torch.from_numpy(chosen)[None], torch.ones(1, len(chosen)))
        np.testing.assert_allclose(one[0].detach().numpy(), row, rtol=0, atol=5e-6)
    assert pool(pooling, []).shape == (0, DIM)


def test_scores_of_lists_are_those_of_batches(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_apply, "FRAMES_AT_ONCE", 8)
    text, frames, mask = batch()
    videos = [shots[real].numpy() for shots, real in zip(frames, mask, strict=True)]
    scores = score_videos(head, text[0].numpy(), videos)
    expected = head.score(text[:1], frames, mask)[0].detach().numpy()
    np.testing.assert_allclose(scores, expected, rtol=0, atol=5e-6)
    assert scores.dtype == np.float32
    assert score_videos(head, text[0].numpy(), []).shape == (0,)


def test_arrays_that_do_not_fit_are_refused_with_their_place(head: Head) -> None:
    good, text = lists([3])[0], np.ones(DIM, np.float32)
    for bad, message in (
        (good[:0], "video 1 has frames of shape \\(0, 128\\)"),
        (good[:, 1:], "video 1 has frames of shape \\(3, 127\\)"),
        (good[0], "video 1 has frames"),
        (good * np.inf, "video 1 has frames that are NaN"),
    ):
        with pytest.raises(UsageError, match=message):
            score_videos(head, text, [good, bad])
    with pytest.raises(UsageError, match="text of shape"):
        score_videos(head, text[1:], [good])
    if head.name == "tight":
        with pytest.raises(UsageError, match="score_videos"):
            pool(head, [good])


# the package


def test_the_package_names_what_it_says_and_loads_no_torch() -> None:
    assert sorted(heads.__all__) == sorted(set(heads.__all__))
    for name in heads.__all__:
        assert getattr(heads, name) is not None
        assert name in dir(heads)
    assert {made(name).name for name in HEADS} == set(HEADS)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = heads.nothing
    code = "import sys, clipsearch.heads as h; h.HEADS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
