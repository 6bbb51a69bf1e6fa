"""Heads from state dicts and files, the authors' names and ours; what does not fit is named."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from clipsearch.errors import EncoderError, UsageError
from clipsearch.heads import (
    HEADS,
    Head,
    MeanHead,
    from_state_dict,
    head_fingerprint,
    load_head,
    save_head,
)
from tests.made_heads import DIM, batch, made


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> Head:
    return made(request.param)


# state dicts


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_known_by_its_own_state(name: str) -> None:
    head = made(name)
    state = {**head.state_dict(), "clip.text_projection": torch.zeros(3, DIM), "clip.x": 1}
    again = from_state_dict(state)
    assert type(again) is type(head)
    assert again.dim == DIM
    assert not again.training
    text, frames, mask = batch()
    assert torch.equal(again.score(text, frames, mask), head.score(text, frames, mask))
    assert head_fingerprint(again) == head_fingerprint(head)
    assert head_fingerprint(head).startswith(f"{name}@")
    again.max_frames = 4
    assert head_fingerprint(again) != head_fingerprint(head)


@pytest.mark.parametrize("name", HEADS[1:])
def test_fingerprints_follow_each_weight_and_not_the_precision_of_the_file(name: str) -> None:
    head = made(name)
    state = {n: v.half() for n, v in head.state_dict().items()}
    prints = {head_fingerprint(from_state_dict(state))}
    assert {head_fingerprint(from_state_dict({n: v.float() for n, v in state.items()}))} == prints
    for n in state:
        changed = state[n].float().clone()
        changed.view(-1)[-1] += 1.0
        prints.add(head_fingerprint(from_state_dict({**state, n: changed})))
    assert len(prints) == 1 + len(state)


def test_from_state_dict_copies_and_leaves_the_seed_alone() -> None:
    state = made("seqtransf").state_dict()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    head = from_state_dict(state)
    assert torch.equal(torch.rand(1), expected)
    with torch.no_grad():
        next(head.parameters()).add_(1.0)
    assert torch.equal(
        state["frame_position_embeddings.weight"],
        made("seqtransf").state_dict()["frame_position_embeddings.weight"],
    )


SPOILS = [
    ({"transformerClip.resblocks.0.ln_1.bias": None}, "resblocks.0.ln_1.bias is missing"),
    ({"transformerClip.resblocks.0.ln_9.bias": torch.zeros(1)}, "ln_9.bias is unexpected"),
    ({"transformerClip.resblocks.5.ln_1.bias": torch.zeros(1)}, r"resblocks.2.\* is missing"),
    ({"logit": torch.zeros(1)}, "logit is unexpected"),
    ({"transformerClip.resblocks.1.ln_2.bias": torch.zeros(3)}, r"shape \(3,\), not \(128,\)"),
    ({"transformerClip.resblocks.1.ln_2.bias": torch.full((DIM,), torch.nan)}, "NaN or infinity"),
    ({"transformerClip.resblocks.1.ln_2.bias": torch.zeros(DIM).int()}, "int32, not floats"),
    ({"transformerClip.resblocks.1.ln_2.bias": [1.0]}, "is list, not floats"),
    ({"frame_position_embeddings.weight": None}, "frame_position_embeddings.weight is missing"),
    ({"frame_position_embeddings.weight": torch.zeros(9, 100)}, "multiple of 64"),
    ({"frame_position_embeddings.weight": torch.zeros(0, DIM)}, "at least 1 rows"),
    ({"lstm_visual.bias_ih_l0": torch.zeros(4 * DIM)}, r"several heads \(seqtransf, seqlstm\)"),
]


@pytest.mark.parametrize(("changes", "message"), SPOILS)
def test_states_that_do_not_fit_are_named(changes: dict[str, object], message: str) -> None:
    state = {**made("seqtransf").state_dict(), **changes}
    with pytest.raises(EncoderError, match=message):
        from_state_dict({n: v for n, v in state.items() if v is not None})


def test_all_that_does_not_fit_is_named_at_once() -> None:
    state = made("tight").state_dict()
    del state["similarity_dense.bias"], state["cross.pooler.dense.bias"]
    state["cross.odd"] = torch.zeros(1)
    with pytest.raises(EncoderError) as caught:
        from_state_dict(state)
    for part in ("similarity_dense.bias is", "cross.pooler.dense.bias is", "cross.odd is"):
        assert part in str(caught.value)


@pytest.mark.parametrize("state", [{}, {"clip.text_projection": torch.zeros(3)}, {"clip.x": 1}])
def test_a_mean_of_unknown_width_is_no_head(state: dict[str, object]) -> None:
    with pytest.raises(EncoderError, match=r"holds no head.*clip\.text_projection"):
        from_state_dict(state)


def test_a_state_bounds_max_frames() -> None:
    state = made("tight").state_dict()
    assert from_state_dict(state, max_frames=3).max_frames == 3
    with pytest.raises(UsageError, match="use 1 to 8"):
        from_state_dict(state, max_frames=9)


# our files

FACTS = {
    "logit_scale": 20.5,
    "encoder": "builtin",
    "encoder_fingerprint": "builtin@abc",
    "training": {"epochs": 3, "note": None, "list": [1, 2.5, {"deep": True}]},
}


def test_a_file_gives_back_all_that_was_saved(head: Head, tmp_path: Path) -> None:
    head.max_frames = 5
    path = tmp_path / "head.pt"
    path.write_bytes(b"replaced")
    save_head(path, head, **FACTS)
    assert [p.name for p in tmp_path.iterdir()] == ["head.pt"]
    loaded = load_head(path)
    assert type(loaded.head) is type(head)
    assert loaded.fingerprint == head_fingerprint(head)
    for name, value in FACTS.items():
        assert getattr(loaded, name) == value
    assert loaded.head.max_frames == 5
    assert load_head(str(path), max_frames=3).head.max_frames == 3
    with pytest.raises(UsageError, match="max_frames 6: the head was trained with 5 frames"):
        load_head(path, max_frames=6)
    text, frames, mask = batch(2, 5)
    assert torch.equal(loaded.head.score(text, frames, mask), head.score(text, frames, mask))


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"cannot write .*none/head\.pt: No such file"):
        save_head(tmp_path / "none" / "head.pt", MeanHead(4), **FACTS)
    with pytest.raises(UsageError, match="plain values"):
        save_head(tmp_path / "head.pt", MeanHead(4), **{**FACTS, "training": {"a": object()}})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "head.pt"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EncoderError, match=r"cannot write .*head\.pt: No space left"):
        save_head(path, MeanHead(4), **FACTS)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["head.pt"]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"version": 2}, "format 2 .*install a newer clipsearch"),
        ({"dim": 64}, "says it is a seqlstm head of width 64"),
        ({"head": "seqtransf"}, "says it is a seqtransf head"),
        ({"max_frames": 99}, "'clipsearch' is damaged.*use 1 to 9"),
        ({"max_frames": "x"}, "'clipsearch' is damaged"),
        ({"max_frames": 5.5}, "'clipsearch' is damaged.*no whole number"),
        ({"logit_scale": None}, "'clipsearch' is damaged"),
        ({"training": 3}, "'clipsearch' is damaged"),
        (None, "'clipsearch' is damaged"),
    ],
)
def test_facts_that_are_wrong_are_refused(
    facts: dict[str, object] | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "head.pt"
    save_head(path, made("seqlstm"), **FACTS)
    state = torch.load(path, weights_only=True)
    state["clipsearch"] = None if facts is None else {**state["clipsearch"], **facts}
    torch.save(state, path)
    with pytest.raises(EncoderError, match=rf"head\.pt: .*{message}"):
        load_head(path)
