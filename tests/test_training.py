"""Heads are trained: the loss, the batches, what is learned, and going on after an interruption."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.errors import UsageError
from clipsearch.heads.batches import Captions, TrainingSet, batch_bounds, split
from clipsearch.heads.schedule import TrainSpec, rate_at

torch = pytest.importorskip("torch")

from clipsearch.heads import trainee  # noqa: E402
from clipsearch.heads.initial import TRAINABLE, new_head  # noqa: E402
from clipsearch.heads.loss import contrastive_loss  # noqa: E402
from clipsearch.heads.modules import MeanHead  # noqa: E402
from clipsearch.heads.schedule import make_optimizer  # noqa: E402
from clipsearch.heads.training import EpochInfo, StepInfo, Trained, train  # noqa: E402
from clipsearch.heads.validation import Validation  # noqa: E402

DIM, FRAMES, VIDEOS = 64, 4, 24


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def direction_of_time(videos: int = VIDEOS, *, seed: int = 0) -> TrainingSet:
    """Videos that go from one scene to another, every second one back, and a text for each way."""
    draw = np.random.default_rng(seed)
    first, second, way = np.random.default_rng(99).standard_normal((3, DIM))
    there = np.stack([first, first, second, second])
    frames = np.stack([there if at % 2 else there[::-1] for at in range(videos)])
    # The same noise there and back: without the order there is nothing to tell them by.
    noise = np.repeat(0.05 * draw.standard_normal((videos // 2, FRAMES, DIM)), 2, axis=0)
    noise[::2] = noise[::2, ::-1]
    texts = np.stack([first + second - way, first + second + way])
    return TrainingSet(
        (frames + noise).astype(np.float32),
        np.ones((videos, FRAMES), bool),
        texts.astype(np.float32),
        np.column_stack([np.arange(videos) % 2, np.arange(videos)]),
    )


def anything(videos: int = 11, *, seed: int = 0, each: int = 2) -> TrainingSet:
    """Random videos of different lengths, each with its own random texts."""
    draw = np.random.default_rng(seed)
    mask = np.arange(FRAMES) < draw.integers(1, FRAMES + 1, (videos, 1))
    return TrainingSet(
        draw.standard_normal((videos, FRAMES, DIM)).astype(np.float16),
        mask,
        draw.standard_normal((videos * each, DIM)).astype(np.float32),
        np.column_stack([np.arange(videos * each), np.arange(videos * each) // each]),
    )


def scores_of(head: Any, data: TrainingSet) -> np.ndarray:
    with torch.no_grad():
        given = [torch.from_numpy(a) for a in (data.texts, data.frames, data.mask)]
        return head.score(given[0], given[1].float(), given[2]).numpy()


def same_weights(one: Any, other: Any) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- the loss -----------------------------------------------------------------------------------


def naive_loss(scores: np.ndarray, positives: np.ndarray) -> float:
    ways = []
    for table, true in ((scores, positives), (scores.T, positives.T)):
        rows = []
        for row, fits in zip(table, true, strict=True):
            if fits.any():
                chances = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
                rows.append(sum(-math.log(chances[at]) / fits.sum() for at in np.flatnonzero(fits)))
        ways.append(sum(rows) / len(rows))
    return sum(ways) / 2


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_that_of_a_naive_loop(seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.standard_normal((7, 5)) * 4
    positives = draw.random((7, 5)) < 0.3
    positives[0, 0] = True
    positives[3], positives[:, 2] = False, False  # neither counts
    found = contrastive_loss(torch.from_numpy(scores), torch.from_numpy(positives))
    assert found.item() == pytest.approx(naive_loss(scores, positives), rel=1e-12)


def test_with_one_positive_each_the_loss_is_that_of_clip() -> None:
    scores = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)) * 5
    at = torch.arange(6)
    cross_entropy = torch.nn.functional.cross_entropy
    clip = (cross_entropy(scores, at) + cross_entropy(scores.T, at)) / 2
    assert contrastive_loss(scores, torch.eye(6, dtype=torch.bool)).item() == pytest.approx(
        clip.item(), rel=1e-6
    )


def test_the_loss_refuses_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match=r"\(2, 3\).*\(3, 2\)"):
        contrastive_loss(torch.zeros(2, 3), torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(UsageError, match="bool"):
        contrastive_loss(torch.zeros(2, 2), torch.ones(2, 2))
    with pytest.raises(UsageError, match="nothing to learn"):
        contrastive_loss(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool))


# --- data and batches ---------------------------------------------------------------------------


def test_an_epoch_takes_every_video_once_with_all_true_pairs() -> None:
    draw = np.random.default_rng(3)
    pairs = np.unique(draw.integers(0, [9, 21], (60, 2)), axis=0)
    pairs = np.concatenate([pairs, np.column_stack([np.zeros(21, int), np.arange(21)])])
    data = replace(anything(21), texts=anything(9, each=1).texts, pairs=pairs)
    true = np.zeros((9, 21), bool)
    true[pairs[:, 0], pairs[:, 1]] = True
    batches = list(Captions(data).batches(5, 2, (7, 1)))
    assert [len(b.videos) for b in batches] == [5, 5, 5, 6]  # the 21st is not left alone
    assert sorted(np.concatenate([b.videos for b in batches])) == list(range(21))
    for batch in batches:
        assert len(set(batch.texts)) == len(batch.texts) <= 2 * len(batch.videos)
        np.testing.assert_array_equal(batch.positives, true[np.ix_(batch.texts, batch.videos)])
        assert batch.positives.any(axis=1).all()
        assert batch.positives.any(axis=0).all()


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    captions = Captions(anything(40, each=9))

    def drawn(*key: int) -> list[list[int]]:
        return [[*b.videos, *b.texts] for b in captions.batches(8, 3, (key[0], key[1]))]

    assert drawn(0, 1) == drawn(0, 1)
    assert len({str(drawn(*key)) for key in [(0, 1), (1, 0), (0, 2), (1, 1), (2**40, 1)]}) == 5


def test_equal_texts_are_one_text() -> None:
    data = anything(6, each=1)
    texts = data.texts.copy()
    texts[4] = texts[1]
    (batch,) = Captions(replace(data, texts=texts)).batches(6, 5, (0, 1))
    assert list(batch.texts) == [0, 1, 2, 3, 5]
    assert batch.positives[1].sum() == 2


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(1, 4, [1]), (4, 4, [4]), (5, 4, [5]), (6, 4, [4, 2]), (9, 4, [4, 5])],
)
def test_a_single_video_left_over_joins_the_batch_before(
    count: int, size: int, sizes: list[int]
) -> None:
    assert [end - start for start, end in batch_bounds(count, size)] == sizes


def test_split_is_by_video_and_repeats() -> None:
    data = direction_of_time()
    data = replace(data, pairs=data.pairs.copy())
    one, two = split(data, 0.25, 5), split(data, 0.25, 5)
    assert [part.digest() for part in one] == [part.digest() for part in two]
    assert one[0].digest() != split(data, 0.25, 6)[0].digest()
    learned, held = one
    assert (len(learned.frames), len(held.frames)) == (18, 6)
    assert len(learned.texts) == len(held.texts) == 2  # a text of both is in both
    found = {row.tobytes() for part in one for row in part.frames}
    assert found == {row.tobytes() for row in data.frames}
    for part in one:  # pairs still point at the same things
        for text, video in part.pairs:
            source = next(i for i in range(VIDEOS) if (data.frames[i] == part.frames[video]).all())
            np.testing.assert_array_equal(part.texts[text], data.texts[source % 2])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 0.01, 0.99, math.nan])
def test_split_needs_two_videos_on_either_side(fraction: float) -> None:
    with pytest.raises(UsageError, match=r"fraction|at least two"):
        split(anything(11), fraction, 0)


def spoiled(**changes: Any) -> TrainingSet:
    data = anything()
    return replace(data, **{name: change(getattr(data, name)) for name, change in changes.items()})


def with_value(where: Any, value: Any) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[where] = value
        return array

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": lambda a: a[0]}, "need .n, F, D."),
        ({"frames": lambda a: a.astype(np.float64)}, "float64"),
        ({"frames": with_value((3, 0, 0), np.nan)}, "video 3 has a frame that is not finite"),
        ({"mask": lambda a: a.astype(np.uint8)}, "bool"),
        ({"mask": with_value(2, False)}, "video 2 has no real frame"),
        ({"mask": with_value(5, [False, True, True, True])}, "video 5 has padding before"),
        ({"texts": lambda a: a[:, :32]}, r"need \(c, 64\)"),
        ({"texts": with_value((1, 1), np.inf)}, "text 1 is not finite"),
        ({"texts": with_value(2, 0.0)}, "text 2 is not finite or all zeros"),
        ({"pairs": lambda a: a.astype(np.int32)}, "int64"),
        ({"pairs": with_value((0, 1), 11)}, r"\(0, 11\).*22 texts and 11 videos"),
        ({"pairs": lambda a: a[2:]}, "video 0 has no caption"),
    ],
)
def test_a_training_set_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        spoiled(**changes)


def test_padding_may_hold_anything() -> None:
    data = anything()
    junk = np.where(data.mask[..., None], data.frames, np.float16(np.nan))
    trained = [
        train(new_head("seqtransf", DIM, depth=1), given, None, TrainSpec(epochs=1, batch_size=4))
        for given in (data, replace(data, frames=junk))
    ]
    assert same_weights(trained[0].head, trained[1].head)


# --- schedule and first weights -----------------------------------------------------------------


def test_the_learning_rate_rises_and_then_follows_a_cosine() -> None:
    rates = [rate_at(step, 10, 0.2) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)  # halfway down
    assert rates[9] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert rate_at(0, 1, 0.0) == 1.0
    assert rate_at(0, 1, 0.5) == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("warmup", 1.0),
        ("weight_decay", -0.1),
        ("clip_norm", math.inf),
        ("seed", -1),
        ("precision", "fp16"),
        ("captions_per_video", 0),
        ("logit_scale", 101.0),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} .*: use "):
        TrainSpec(**{name: value})


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_new_head_is_drawn_from_its_seed_alone(name: str) -> None:
    state = torch.random.get_rng_state()
    head = new_head(name, DIM, depth=2, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same_weights(head, new_head(name, DIM, depth=2, seed=3))
    assert not same_weights(head, new_head(name, DIM, depth=2, seed=4))
    for key, weight in head.state_dict().items():
        if "lstm" in key:
            assert 0.115 < weight.abs().max() <= 1 / 8
        elif weight.ndim > 1:
            assert weight.std() == pytest.approx(0.02, rel=0.25)
        else:
            assert (weight == (0.0 if key.endswith("bias") else 1.0)).all()


def text_tower(dim: int, blocks: int) -> dict[str, Any]:
    source = new_head("seqtransf", dim, depth=blocks, seed=8).state_dict()
    tower = {key.removeprefix("transformerClip."): value.half() for key, value in source.items()}
    positions = tower.pop("frame_position_embeddings.weight")
    named = {f"transformer.{key}": value for key, value in tower.items()}
    return {**named, "positional_embedding": positions, "text_projection": torch.zeros(dim, 9)}


@pytest.mark.parametrize(
    ("name", "table", "blocks"),
    [
        ("seqlstm", "frame_position_embeddings.weight", None),
        ("seqtransf", "frame_position_embeddings.weight", "transformerClip"),
        ("tight", "cross.embeddings.position_embeddings.weight", "cross.transformer"),
    ],
)
def test_a_new_head_takes_positions_and_first_blocks_of_clip(
    name: str, table: str, blocks: str | None
) -> None:
    tower = text_tower(DIM, 3)
    plain = new_head(name, DIM, depth=2, positions=20).state_dict()
    state = new_head(name, DIM, depth=2, positions=20, text_tower=tower).state_dict()
    taken = {table: tower["positional_embedding"][:20].float()}
    for key in state:
        if blocks and key.startswith(blocks):
            inner = key.removeprefix(f"{blocks}.")
            taken[key] = tower[f"transformer.{inner}"].float()
    assert len(taken) == (1 if blocks is None else 1 + 2 * 12)
    assert all(torch.equal(state[key], taken.get(key, plain[key])) for key in state)


def test_new_heads_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="'mean' has no weights"):
        new_head("mean", DIM)
    with pytest.raises(UsageError, match="'cls': use one of seqlstm, seqtransf, tight"):
        new_head("cls", DIM)
    with pytest.raises(UsageError, match=r"dim 100: .*64"):
        new_head("seqtransf", 100)
    with pytest.raises(UsageError, match="depth 0"):
        new_head("tight", DIM, depth=0)
    with pytest.raises(UsageError, match=r"resblocks\.3.*12 missing"):
        new_head("seqtransf", DIM, text_tower=text_tower(DIM, 3))
    with pytest.raises(UsageError, match=r"\(77, 128\).*\(77, 64\)"):
        new_head("tight", DIM, depth=1, text_tower=text_tower(128, 1))


def test_only_matrices_decay() -> None:
    head = new_head("tight", DIM, depth=1)
    scale = torch.nn.Parameter(torch.tensor(1.0))
    decayed, kept = make_optimizer(head, scale, TrainSpec(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    shapes = {name: p.shape for name, p in head.named_parameters() if p.ndim > 1}
    assert len(decayed["params"]) == len(shapes) - 1  # without the position table
    assert {id(p) for p in kept["params"]} >= {
        id(scale),
        id(head.cross.embeddings.position_embeddings.weight),
    }


# --- what is learned ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_trained_head_tells_the_direction_of_time_and_the_mean_cannot(name: str) -> None:
    data = direction_of_time()
    spec = TrainSpec(epochs=40, batch_size=12, learning_rate=3e-3)
    trained = train(new_head(name, DIM, depth=1), data, None, spec, device="cpu")
    right = np.arange(VIDEOS) % 2
    assert (scores_of(trained.head, data).argmax(axis=0) == right).mean() > 0.9
    mean = scores_of(MeanHead(DIM), data)
    np.testing.assert_allclose(mean[:, ::2], mean[:, 1::2], atol=1e-6)  # forth and back are one
    assert trained.history[-1].train_loss < trained.history[0].train_loss
    assert not any(p.requires_grad for p in trained.head.parameters())
    assert not trained.head.training
    assert trained.head.max_frames == FRAMES
    assert (trained.logit_scale == 1.0) == (name == "tight")


def test_training_leaves_the_given_head_and_the_random_state_alone() -> None:
    head = new_head("seqtransf", DIM, depth=1)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    trained = train(head, anything(), None, TrainSpec(epochs=1, batch_size=4))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert same_weights(head, new_head("seqtransf", DIM, depth=1))
    assert not same_weights(head, trained.head)
    assert all(p.requires_grad for p in head.parameters())
    assert head.max_frames == 77


def test_the_best_epoch_is_the_one_of_lowest_validation_loss() -> None:
    data, held = anything(16, seed=1), anything(8, seed=2)  # nothing carries over: it gets worse
    spec = TrainSpec(epochs=8, batch_size=8, learning_rate=3e-2, seed=1)
    told: list[EpochInfo] = []
    trained = train(new_head("seqlstm", DIM), data, held, spec, on_epoch=told.append)
    assert tuple(told) == trained.history
    losses = [info.val_loss for info in told]
    assert trained.best_epoch == 1 + int(np.argmin(losses)) < spec.epochs
    assert [i.epoch for i in told if i.best][-1] == trained.best_epoch
    again = replace(spec, logit_scale=trained.logit_scale)
    model = trainee.Trainee(trained.head, again, torch.device("cpu"))
    loss, metrics = Validation(held, spec).measure(model)
    assert loss == pytest.approx(told[trained.best_epoch - 1].val_loss, rel=1e-5)
    assert metrics == told[trained.best_epoch - 1].metrics
    table = scores_of(trained.head, held)
    hits = [table[text].argmax() == video for text, video in held.pairs]
    assert metrics["text_to_video_r1"] == pytest.approx(np.mean(hits))
    hits = [table[:, video].argmax() // 2 == video for video in range(8)]
    assert metrics["video_to_text_r1"] == pytest.approx(np.mean(hits))


def test_without_validation_the_last_epoch_is_kept() -> None:
    trained = train(new_head("tight", DIM, depth=1), anything(5), None, TrainSpec(epochs=2))
    assert trained.best_epoch == 2
    assert [(info.val_loss, dict(info.metrics)) for info in trained.history] == [(None, {})] * 2


def test_steps_are_told_and_those_without_a_wrong_match_left_out() -> None:
    data = direction_of_time(6)
    steps: list[StepInfo] = []
    spec = TrainSpec(epochs=8, batch_size=2)
    trained = train(new_head("seqlstm", DIM), data, None, spec, on_step=steps.append)
    assert all(info.steps == 3 and info.epochs == 8 and info.loss > 0 for info in steps)
    assert 8 <= len(steps) < 24  # in some batches both videos went the same way
    first = [info.loss for info in steps if info.epoch == 1]
    assert trained.history[0].train_loss == pytest.approx(np.mean(first))


def test_texts_that_fit_everything_are_refused() -> None:
    data = direction_of_time()
    all_pairs = np.column_stack([np.zeros(VIDEOS, int), np.arange(VIDEOS)])
    with pytest.raises(UsageError, match="nothing to tell apart"):
        train(new_head("seqlstm", DIM), replace(data, pairs=all_pairs), None, TrainSpec(epochs=1))


def test_a_validation_without_a_wrong_match_is_refused() -> None:
    # Two videos, one text for both and one for the first: by the draw, only the common one.
    held = replace(anything(2), pairs=np.array([[0, 0], [1, 0], [0, 1]]))
    Validation(held, TrainSpec(captions_per_video=1, seed=0))
    with pytest.raises(UsageError, match="in no batch of 128 of its 2 videos"):
        Validation(held, TrainSpec(captions_per_video=1, seed=1))


def test_pairs_scored_in_blocks_are_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    data = anything(9)
    (batch,) = Captions(data).batches(9, 2, (0, 1))
    found = []
    for tokens in (4096, 5 * 4, 1):
        monkeypatch.setattr(trainee, "MOST_TOKENS", tokens)
        head = new_head("tight", DIM, depth=1)
        model = trainee.Trainee(head, TrainSpec(), torch.device("cpu"))
        loss, _ = model.loss(data, batch)
        loss.backward()
        weights = model.head.cross.transformer.resblocks[0].mlp.c_fc.weight
        found.append([loss.detach(), weights.grad])
    for block in found[1:]:
        torch.testing.assert_close(block, found[0])


@pytest.mark.parametrize("name", TRAINABLE)
def test_bf16_trains_much_as_fp32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainee, "MOST_TOKENS", 50)  # tight: blocks are computed again
    data, held = anything(8), anything(6, seed=1)
    losses = []
    for precision in ("fp32", "bf16"):
        spec = TrainSpec(epochs=2, batch_size=8, precision=precision)
        trained = train(new_head(name, DIM, depth=1), data, held, spec, device="cpu")
        assert all(p.dtype == torch.float32 for p in trained.head.parameters())
        losses.append([trained.history[-1].train_loss, trained.history[-1].val_loss])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)


# --- interrupted and resumed --------------------------------------------------------------------


class Stop:
    """Interrupts at one step, as Ctrl-C does."""

    def __init__(self, epoch: int, step: int) -> None:
        self.at = (epoch, step)

    def __call__(self, info: StepInfo) -> None:
        if (info.epoch, info.step) == self.at:
            raise KeyboardInterrupt


SPEC = TrainSpec(epochs=3, batch_size=4, learning_rate=1e-3, captions_per_video=1)


def run(name: str, **how: Any) -> Trained:
    given = {"head": new_head(name, DIM, depth=1), "data": anything(), "spec": SPEC, **how}
    head, data, spec = (given.pop(key) for key in ("head", "data", "spec"))
    return train(head, data, given.pop("held", anything(4, seed=5)), spec, device="cpu", **given)


@pytest.mark.parametrize("name", TRAINABLE)
def test_interrupted_and_resumed_gives_the_same_weights(name: str, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    whole = run(name)
    for stop in (Stop(1, 2), Stop(2, 2), Stop(3, 3)):
        with pytest.raises(KeyboardInterrupt):
            run(name, state_path=state, resume=True, on_step=stop)
        assert state.exists() == (stop.at[0] > 1)
    for _ in range(2):  # the second one finds nothing left to do
        resumed = run(name, state_path=state, resume=True)
        assert same_weights(resumed.head, whole.head)
        assert resumed.history == whole.history
        assert (resumed.best_epoch, resumed.logit_scale) == (whole.best_epoch, whole.logit_scale)
    assert list(tmp_path.iterdir()) == [state]


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    run("seqlstm", state_path=state, spec=replace(SPEC, epochs=1))
    kept = state.read_bytes()
    once = {"spec": replace(SPEC, epochs=1)}
    for change, message in (
        ({}, "epochs was 1 and is 3"),
        (
            {"spec": replace(SPEC, epochs=1, learning_rate=0.5)},
            "learning_rate was 0.001 and is 0.5",
        ),
        ({**once, "data": anything(12)}, "training data was .* and is"),
        ({**once, "held": None}, "validation data was .* and is none"),
        ({**once, "head": new_head("seqlstm", DIM, seed=1)}, r"\(first weights was"),
        ({**once, "head": new_head("tight", DIM, depth=1)}, "head was seqlstm and is tight"),
    ):
        with pytest.raises(UsageError, match=message):
            run("seqlstm", state_path=state, resume=True, **change)
    assert state.read_bytes() == kept
    run("seqlstm", state_path=state)  # not resumed: begins anew
    assert state.read_bytes() != kept


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    run("seqlstm", state_path=state, spec=replace(SPEC, epochs=1))
    whole = state.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2]):
        state.write_bytes(content)
        with pytest.raises(UsageError, match=r"state\.pt cannot be read .*delete it"):
            run("seqlstm", state_path=state, resume=True)
    torch.save({"version": 2, "identity": {}}, state)
    with pytest.raises(UsageError, match="version 2, this clipsearch knows 1"):
        run("seqlstm", state_path=state, resume=True)


def test_a_loss_that_is_not_finite_stops_and_overwrites_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    state.write_bytes(b"kept")
    data = anything()
    bright = replace(data, frames=np.where(data.frames > 0, 3e38, -3e38).astype(np.float32))
    with pytest.raises(UsageError, match=r"epoch 1, .*step 1: .*lower than 0\.001"):
        run("tight", data=bright, state_path=state)
    assert state.read_bytes() == b"kept"


def test_arguments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'mean' has no weights"):
        run("seqlstm", head=MeanHead(DIM))
    with pytest.raises(UsageError, match="training data of 64 dimensions for a head of 128"):
        run("seqlstm", head=new_head("seqlstm", 128))
    with pytest.raises(UsageError, match="up to 4 frames a video, where 2 are allowed"):
        run("tight", head=new_head("tight", DIM, depth=1, positions=3))
    with pytest.raises(UsageError, match="resume needs the state_path"):
        run("seqlstm", resume=True)
    with pytest.raises(UsageError, match="the folder is not there"):
        run("seqlstm", state_path=tmp_path / "no" / "state.pt")
    with pytest.raises(UsageError, match="is a folder"):
        run("seqlstm", state_path=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_facts_of_a_training_are_plain_values() -> None:
    assert all(isinstance(value, (int, float, str)) for value in asdict(TrainSpec()).values())


def test_a_head_claims_no_more_frames_than_it_learned() -> None:
    """Longer videos of the validation set are sampled; padding that no video needs is dropped."""
    generator = np.random.default_rng(0)

    def made(lengths: list[int], width: int) -> TrainingSet:
        mask = np.arange(width) < np.array(lengths)[:, None]
        frames = generator.standard_normal((len(lengths), width, DIM)).astype(np.float32)
        texts = generator.standard_normal((len(lengths), DIM)).astype(np.float32)
        return TrainingSet(frames, mask, texts, np.repeat(np.arange(len(lengths))[:, None], 2, 1))

    data, held = made([3, 2, 1, 3], 6), made([8, 3], 8)
    narrow = held.narrowed(3)
    assert narrow.mask.tolist() == [[True] * 3, [True] * 3]
    np.testing.assert_array_equal(narrow.frames[0], held.frames[0, [0, 3, 7]])
    np.testing.assert_array_equal(narrow.frames[1], held.frames[1, :3])
    assert data.narrowed(77).frames.shape[1] == data.longest == 3
    trained = train(new_head("seqtransf", DIM, depth=1), data, held, TrainSpec(epochs=1))
    assert trained.head.max_frames == 3
