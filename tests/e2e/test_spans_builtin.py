"""The built-in encoder finds the parts of a film that was joined from real media."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from clipsearch import Index
from clipsearch.eval import iou

SIZE = (320, 180)
RATE = 25
PHOTO_SECONDS = 6
SHARE = 0.75  # of a photo's sides that is seen at once while the camera moves over it
# All the demo's videos, and photos between them. No cat: to this encoder it is half a rabbit, and
# the two come out as one span (README, Limits).
PARTS = (
    ("bikes.mp4", "people riding bicycles"),
    ("coffee.png", "a cup of coffee"),
    ("bigbuckbunny.mp4", "a rabbit in a meadow"),
    ("carphone_pristine.mp4", "a man in a suit"),
    ("rocket.jpg", "a rocket on its launch pad"),
    ("motorcycle_left.png", "a motorcycle"),
)


def frames_of_video(path: Path):
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.reformat(*SIZE, "rgb24").to_ndarray()


def frames_of_photo(path: Path):
    """The camera moves over the picture from left to right."""
    photo = Image.open(path).convert("RGB")
    width, height = photo.width * SHARE, photo.height * SHARE
    count = PHOTO_SECONDS * RATE
    for n in range(count):
        left, top = (photo.width - width) * n / count, (photo.height - height) / 2
        box = (int(left), int(top), int(left + width), int(top + height))
        yield np.asarray(photo.crop(box).resize(SIZE))


@pytest.fixture(scope="module")
def joined(photos, videos, tmp_path_factory):
    """The film's path in its index's folder, and the seconds [start, end) of each part."""
    path = tmp_path_factory.mktemp("joined") / "film.mp4"
    borders, count = [0.0], 0
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
        for name, _ in PARTS:
            is_video = name.endswith(".mp4")
            source = videos / name if is_video else photos / name
            for picture in frames_of_video(source) if is_video else frames_of_photo(source):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
                count += 1
            borders.append(count / RATE)
        output.mux(stream.encode())
    with Index.create(path.parent / "index", model="builtin") as index:
        index.add([path], fps=2.0)
        yield index.video(path), list(pairwise(borders))


def test_each_part_is_found_by_its_name(joined):
    film, places = joined
    for (_, words), place in zip(PARTS, places, strict=True):
        span = film.span(words)
        assert span is not None
        assert iou([span], [place])[0, 0] >= 0.7, (words, span, place)


def test_a_script_in_order_finds_all_borders(joined):
    film, places = joined
    found = film.align([words for _, words in PARTS])
    for span, (start, end) in zip(found, places, strict=True):
        assert span is not None
        assert abs(span.start - start) <= 2, (span, start)
        assert abs(span.end - end) <= 2, (span, end)
