"""Encoding, collecting and publishing run beside each other: bounded, in order, to the end."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipsearch import AddListener, AddOptions, Index
from clipsearch.encoders.base import Feeding
from clipsearch.encoders.fake import FakeEncoder
from clipsearch.errors import ClipsearchError, EncoderError, MediaError
from clipsearch.ingest import batcher as batching
from clipsearch.ingest import encoding as encoding_module
from clipsearch.ingest import flow, reading
from clipsearch.ingest.batcher import MOST_WAVES, Batcher, Part, PartialMedia
from clipsearch.ingest.encoding import BATCHES_AHEAD, Encoding
from clipsearch.ingest.publishing import Publishing
from clipsearch.store.writer import Writer
from clipsearch.types import FoundFile, MediaInfo, Source, Unit, Vectors


def rows(contents: Sequence[Any]) -> Vectors:
    return np.array(contents, np.float32).reshape(-1, 1)


def media(name: str) -> PartialMedia:
    file = FoundFile(Path("/m"), name, "image", 1, 1)
    return PartialMedia(file, "sha256:0", MediaInfo(1, 1), {"visual": Part()})


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(100):
        picture = Image.new("RGB", (16, 16), (2 * number, 0, 250 - 2 * number))
        picture.save(folder / f"{number:03}.png")
    return folder


def test_batches_are_encoded_at_once_and_a_bounded_number_wait() -> None:
    go_on, begun, calls = threading.Event(), [], 3

    def encode(contents: Sequence[int]) -> Vectors:
        begun.append(contents[0])
        assert go_on.wait(20)
        return rows(contents)

    encoding = Encoding({"visual": encode}, Feeding(1, calls, 0))
    submitted: list[Future[Vectors]] = []

    def submit() -> None:
        for number in range(20):
            submitted.append(encoding.submit("visual", [number]))

    feeder = threading.Thread(target=submit)
    feeder.start()
    full = calls + BATCHES_AHEAD
    deadline = time.monotonic() + 20
    while (len(begun), len(submitted)) != (calls, full) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert sorted(begun) == list(range(calls))
    assert len(submitted) == full
    go_on.set()
    feeder.join(20)
    encoding.close(finish=True)
    assert [float(future.result()[0, 0]) for future in submitted] == list(range(20))


def test_a_run_that_is_given_up_does_not_wait_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_module, "STOP_SECONDS", 0.05)
    hang, begun = threading.Event(), threading.Event()

    def encode(contents: Sequence[int]) -> Vectors:
        begun.set()
        hang.wait(20)
        return rows(contents)

    encoding = Encoding({"visual": encode}, Feeding(1, 1, 0))
    future = encoding.submit("visual", [1])
    assert begun.wait(20)
    encoding.close(finish=False)
    assert not future.done()
    hang.set()
    assert future.result(20).shape == (1, 1)


def test_after_a_failure_nothing_more_is_taken() -> None:
    def encode(contents: Sequence[int]) -> Vectors:
        raise EncoderError("out of memory")

    encoding = Encoding({"visual": encode}, Feeding(1, 1, 0))
    assert encoding.submit("visual", [1]).exception(20) is not None
    with pytest.raises(EncoderError, match="out of memory"):
        encoding.submit("visual", [2])
    encoding.close(finish=True)


def test_sounds_do_not_wait_for_a_batch_as_large_as_one_of_pictures() -> None:
    sizes: list[int] = []

    def submit(_: Source, contents: Sequence[int]) -> Future[Vectors]:
        sizes.append(len(contents))
        return Future()

    batches = Batcher(submit, ["visual", "audio"], batch_size=1024)
    film = PartialMedia(
        media("film").file, "sha256:0", MediaInfo(1, 1), {"visual": Part(), "audio": Part()}
    )
    for number in range(MOST_WAVES):
        batches.add(film, "visual", Unit("frame", number, number + 1), number)
        batches.add(film, "audio", Unit("audio", number, number + 1), number)
    assert sizes == [MOST_WAVES]


@pytest.mark.parametrize("seed", range(5))
def test_files_come_back_whole_and_in_order_however_they_are_read(seed: int) -> None:
    draw = random.Random(seed)
    futures: list[tuple[Future[Vectors], Sequence[int]]] = []

    def submit(_: Source, contents: Sequence[int]) -> Future[Vectors]:
        futures.append((Future(), contents))
        return futures[-1][0]

    wanted = {number: draw.randrange(0, 9) for number in range(30)}
    bad = {number for number in wanted if draw.random() < 0.2}
    batches = Batcher(submit, ["visual"], batch_size=4)
    opened = {number: media(str(number)) for number in wanted}
    steps = [number for number, count in wanted.items() for _ in range(count + 2)]
    draw.shuffle(steps)
    left = {number: count + 2 for number, count in wanted.items()}
    back: list[PartialMedia] = []
    for number in steps:  # the first step starts a file, the last one ends it
        one = opened[number]
        if left[number] == wanted[number] + 2:
            batches.start(number, one)
        elif left[number] == 1:
            if number in bad:
                batches.settle(number)
            one.finished = True
        else:
            unit_number = len(one.parts["visual"].units)
            content = 100 * number + unit_number
            batches.add(one, "visual", Unit("frame", unit_number, unit_number + 1), content)
        left[number] -= 1
        draw.shuffle(futures)
        if futures and draw.random() < 0.5:
            future, contents = futures.pop()
            future.set_result(rows(contents))
        back += batches.completed()
    batches.flush()
    for future, contents in futures:
        future.set_result(rows(contents))
    back += batches.completed()
    assert [int(one.file.relative) for one in back] == sorted(set(wanted) - bad)
    for one in back:
        number = int(one.file.relative)
        count = wanted[number]
        if count:
            found = one.parts["visual"].raw()[:, 0].tolist()
            assert found == [100 * number + unit for unit in range(count)]
    assert not batches.pending


def test_a_file_that_takes_long_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(_: Source, contents: Sequence[int]) -> Future[Vectors]:
        future: Future[Vectors] = Future()
        future.set_result(rows(contents))
        return future

    batches = Batcher(submit, ["visual"], batch_size=1)
    files = [media(str(number)) for number in range(4)]
    for number in (1, 0, 3):
        batches.start(number, files[number])
        batches.add(files[number], "visual", Unit("image"), number)
        files[number].finished = number != 0
    assert not list(batches.completed())
    monkeypatch.setattr(batching, "OVERTAKEN_SECONDS", -1.0)
    assert list(batches.completed()) == [files[1], files[3]]
    files[0].finished = True
    batches.settle(2)
    assert list(batches.completed()) == [files[0]]
    assert not batches.pending


def test_a_file_that_hangs_keeps_no_other_from_being_found(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    open_media = reading.open_media

    def open_or_hang(file: FoundFile, *rest: Any, **more: Any) -> Any:
        if file.relative == "000.png":
            hang.wait(30)
        return open_media(file, *rest, **more)

    monkeypatch.setattr(reading, "open_media", open_or_hang)
    monkeypatch.setattr(batching, "OVERTAKEN_SECONDS", 0.0)
    monkeypatch.setattr(flow, "PUBLISH_SECONDS", 0.0)
    Index.create(tmp_path / "index", model="fake").close()

    def add() -> None:
        with Index.open(tmp_path / "index") as index:
            index.add([photos], options=AddOptions(batch_size=4, workers=2))

    adding = threading.Thread(target=add)
    adding.start()
    with Index.open(tmp_path / "index") as index:
        deadline = time.monotonic() + 20
        while index.status().images < 90 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert 90 <= index.status().images < 100
        hang.set()
        adding.join(30)
        assert index.status().images == 100


def test_what_the_writer_meets_is_raised_and_stops_it(tmp_path: Path) -> None:
    done: list[str] = []

    class FullDisk:
        class catalog:  # noqa: N801
            @staticmethod
            def move_media(moves: object) -> None:
                done.append("moved")

        def publish(self, media: object) -> None:
            raise OSError(28, "No space left on device")

        def tidy(self, stop: object) -> None:
            done.append("tidied")

    publishing = Publishing(FullDisk())  # type: ignore[arg-type]
    publishing.publish([], [])
    with pytest.raises(OSError, match="No space"):
        publishing.drain()
    with pytest.raises(OSError, match="No space"):
        publishing.publish([], [])
    with pytest.raises(OSError, match="No space"):
        publishing.close()
    assert done == ["moved"]


def test_many_failures_keep_nothing_from_being_published() -> None:
    go_on = threading.Event()

    class Slow:
        class catalog:  # noqa: N801
            @staticmethod
            def move_media(moves: object) -> None:
                pass

        def publish(self, media: object) -> None:
            pass

        def tidy(self, stop: object) -> None:
            pass

        def put_failure(self, *what: object) -> None:
            assert go_on.wait(20)

    publishing = Publishing(Slow())  # type: ignore[arg-type]
    publishing.put_failure(media("bad").file, "sha256:0", "not a picture", ("visual",))
    assert not publishing.busy
    publishing.publish([], [])
    assert publishing.busy
    go_on.set()
    publishing.drain()
    assert not publishing.busy
    publishing.close()


def test_an_interrupted_end_waits_for_what_is_being_written_and_drops_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on, written = threading.Event(), threading.Event(), []

    class Slow:
        class catalog:  # noqa: N801
            @staticmethod
            def move_media(moves: object) -> None:
                begun.set()
                assert go_on.wait(20)

        def publish(self, media: object) -> None:
            written.append(media)

    publishing = Publishing(Slow())  # type: ignore[arg-type]
    thread = next(t for t in threading.enumerate() if t.name == "clipsearch-publish")
    publishing.publish([], [])
    publishing.publish([], [])
    assert begun.wait(20)

    class Interrupted:
        joins = 0

        def join(self) -> None:
            self.joins += 1
            if self.joins == 1:
                raise KeyboardInterrupt
            go_on.set()
            thread.join()

    monkeypatch.setattr(publishing, "_thread", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        publishing.close(hurry=True)
    assert not thread.is_alive()
    assert len(written) == 1


def test_a_second_interrupt_leaves_no_thread_that_writes(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Encoding.close

    def interrupted(self: Encoding, *, finish: bool) -> None:
        close(self, finish=finish)
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoding, "close", interrupted)
    with Index.create(tmp_path / "index", model="fake") as index:
        with pytest.raises(KeyboardInterrupt):
            index.add([photos / "000.png"])
        assert not [t for t in threading.enumerate() if t.name.startswith("clipsearch-")]


def test_what_was_to_be_published_when_it_was_interrupted_is_kept(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, calls = Publishing.publish, []

    def interrupted(self: Publishing, files: Sequence[Any], moves: Sequence[Any]) -> None:
        calls.append(len(files))
        if len(calls) == 1:
            raise KeyboardInterrupt
        publish(self, files, moves)

    monkeypatch.setattr(Publishing, "publish", interrupted)
    with Index.create(tmp_path / "index", model="fake") as index:
        with pytest.raises(KeyboardInterrupt):
            index.add([photos])
        assert index.status().images == 100


def test_an_interrupt_does_not_wait_for_a_trial(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trying, go_on, over = threading.Event(), threading.Event(), threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def hang() -> None:
        assert trying.wait(20)
        signal.pthread_kill(main, signal.SIGINT)
        go_on.wait(10)
        over.set()

    def tune(self: FakeEncoder, memory: Path) -> None:
        with ThreadPoolExecutor(1) as pool:
            trial = pool.submit(hang)
            trying.set()
            trial.result()

    monkeypatch.setattr(FakeEncoder, "tune", tune)
    with Index.create(tmp_path / "index", model="fake") as index:
        with pytest.raises(KeyboardInterrupt):
            index.add([photos], options=AddOptions(cache=tmp_path / "cache", batch_size=8))
        assert not over.is_set()
        go_on.set()
        assert over.wait(20)
        assert index.status().images > 0


@pytest.mark.parametrize("how", ["out of memory", "norm nan"])
def test_a_failing_encoder_ends_the_run_and_what_is_complete_is_kept(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    encode, calls = FakeEncoder.encode_images, []

    def failing(self: FakeEncoder, prepared: Sequence[Any], **given: Any) -> Vectors:
        calls.append(len(prepared))
        if len(calls) > 5 and how == "out of memory":
            raise EncoderError(how)
        return encode(self, prepared, **given) * (np.nan if len(calls) > 5 else 1)

    monkeypatch.setattr(FakeEncoder, "encode_images", failing)
    with Index.create(tmp_path / "index", model="fake") as index:
        with pytest.raises(ClipsearchError, match=how):
            index.add([photos], options=AddOptions(batch_size=4))
        assert index.status().images == 20
    left = [t.name for t in threading.enumerate() if t.name.startswith("clipsearch-")]
    assert not left


def test_a_trial_is_made_once_there_is_enough_to_encode(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    names: set[str] = set()
    tried: list[Path] = []
    encode = FakeEncoder.encode_images

    def noted(self: FakeEncoder, prepared: Sequence[Any], **how: Any) -> Vectors:
        sizes.append(len(prepared))
        names.add(threading.current_thread().name)
        return encode(self, prepared, **how)

    def tune(self: FakeEncoder, memory: Path) -> str:
        tried.append(memory)
        return "tried"

    def feeding(self: FakeEncoder) -> Feeding:
        return Feeding(3, 2, 0) if tried else Feeding(16, 1, 0)

    monkeypatch.setattr(FakeEncoder, "encode_images", noted)
    monkeypatch.setattr(FakeEncoder, "tune", tune)
    monkeypatch.setattr(FakeEncoder, "feeding", property(feeding))
    said: list[str] = []
    memory = tmp_path / "cache"
    with Index.create(tmp_path / "index", model="fake") as index:
        options, listener = AddOptions(cache=memory), AddListener(on_notice=said.append)
        index.add([photos / "000.png"], options=options, listener=listener)
        assert (tried, said) == ([], [])
        index.add([photos], options=options, listener=listener)
        assert (tried, said) == ([memory / "trials.json"], ["tried"])
        assert sizes[:5] == [1, 16, 16, 16, 16]
        assert set(sizes[5:]) <= {3, 1, 2}
        assert names == {"clipsearch-encode"}
        assert index.status().images == 100


def test_a_damaged_file_amid_others_leaves_their_batch_as_it_is(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_media = reading.open_media

    def break_some(file: FoundFile, *rest: Any, **more: Any) -> Any:
        stream = open_media(file, *rest, **more)

        def units() -> Any:
            yield from stream.units
            if int(file.path.stem) % 3 == 0:
                raise MediaError("breaks off")

        return type(stream)(stream.info, units())

    monkeypatch.setattr(reading, "open_media", break_some)
    with Index.create(tmp_path / "index", model="fake") as index:
        report = index.add([photos], options=AddOptions(batch_size=7, workers=3))
        assert (report.added, len(report.failures)) == (66, 34)
        for number in (1, 50, 98):
            pixels = np.asarray(Image.open(photos / f"{number:03}.png"))
            row = index.encoder.encode_images([index.encoder.prepare(pixels)])[0]
            [hit] = index.search(row, top=1)
            assert hit.path.name == f"{number:03}.png"
            assert hit.score == pytest.approx(1.0, abs=1e-3)


def test_publications_do_not_pile_up_while_the_writer_is_busy(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, encode = Writer.publish, FakeEncoder.encode_images
    sizes: list[int] = []
    encoded: list[int] = []

    def counted(self: FakeEncoder, prepared: Sequence[Any], **more: Any) -> Vectors:
        encoded.append(len(prepared))
        return encode(self, prepared, **more)

    def slowly(self: Writer, files: Sequence[Any]) -> None:
        sizes.append(len(files))
        deadline = time.monotonic() + 20
        while sum(encoded) < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        publish(self, files)

    monkeypatch.setattr(Writer, "publish", slowly)
    monkeypatch.setattr(FakeEncoder, "encode_images", counted)
    monkeypatch.setattr(flow, "PUBLISH_SECONDS", 0.0)
    with Index.create(tmp_path / "index", model="fake") as index:
        index.add([photos], options=AddOptions(batch_size=1))
    assert sum(sizes) == 100
    assert len(sizes) < 10, "what completes meanwhile is published together"
