"""The file that a clip is written to: its container, and how it comes to be whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import OutputContainer
from av.stream import Stream

from clipsearch.errors import MediaError, UsageError
from clipsearch.media.files import short_reason

_H264 = ("libx264", "mpeg4")  # encoders, best first
# What MPEG-TS has numbers for: FFmpeg would write other codecs so that nobody can read them.
_TS_VIDEO = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4")
_TS_SOUND = ("aac", "mp2", "mp3", "ac3", "eac3", "dts", "opus", "truehd")


@dataclass(frozen=True, slots=True)
class Form:
    """A container that clips are written in.

    codecs: what can be copied into it; None: FFmpeg knows. turns: whether it can say that pictures
    are to be turned. shift: whether FFmpeg moves times so that no decoding time is negative.
    """

    name: str  # of FFmpeg's muxer
    video: tuple[str, ...] = _H264
    audio: str = "aac"
    codecs: frozenset[str] | None = None
    turns: bool = True
    shift: bool = True


FORMS: dict[str, Form] = {
    ".mp4": Form("mp4"),
    ".m4v": Form("mp4"),
    ".mov": Form("mov"),
    ".mkv": Form("matroska", shift=False),  # decoding times are not stored
    ".webm": Form("webm", ("libvpx-vp9",), "libopus", shift=False),
    ".ts": Form("mpegts", codecs=frozenset(_TS_VIDEO + _TS_SOUND), turns=False),
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a clip goes; the suffix says the container."""

    path: Path
    form: Form
    overwrite: bool

    @classmethod
    def of(cls, path: Path, source: Path | None, *, overwrite: bool) -> Target:
        """Raises UsageError for an unknown suffix, or a path that must not or may not be used."""
        form = FORMS.get(path.suffix.lower())
        if form is None:
            raise UsageError(f"{path.name!r}: name a clip with one of {', '.join(FORMS)}")
        if not path.parent.is_dir():
            raise UsageError(f"{path.parent}: no such folder, make it first")
        if os.path.lexists(path):
            _check_replaceable(path, source, overwrite=overwrite)
        return cls(path, form, overwrite)

    def refused(self, what: str) -> MediaError:
        """The error for what this container cannot hold by copying."""
        other = "" if self.form.name == "matroska" else " or the suffix .mkv"
        return MediaError(f"{self.path.suffix} cannot hold {what}: use --reencode{other}")

    def can_copy(self, stream: Stream) -> bool:
        """Whether this container's rules allow the codec of the stream."""
        codecs = self.form.codecs
        return codecs is None or stream.codec_context.codec.canonical_name in codecs

    @contextmanager
    def writing(self) -> Iterator[None]:
        """FFmpeg's errors inside as ours: an OSError of this path, or a MediaError."""
        try:
            yield
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                number = error.errno or 0
                raise OSError(number, os.strerror(number), str(self.path)) from error
            raise MediaError(
                f"cannot be written as {self.path.suffix}: {short_reason(error)}"
            ) from error

    @contextmanager
    def created(self) -> Iterator[OutputContainer]:
        """Write under another name in the same folder; move it here if nothing goes wrong."""
        temporary = self.path.with_name(f".clip-{secrets.token_hex(8)}.part")
        options = {} if self.form.shift else {"avoid_negative_ts": "disabled"}
        output = av.open(
            f"file:{os.fspath(temporary)}",
            "w",
            format=self.form.name,
            container_options=options,
            metadata_errors="replace",
        )
        try:
            try:
                yield output
            except BaseException:
                with contextlib.suppress(av.FFmpegError):
                    output.close()  # lets go of the file; what is in it does not count
                raise
            with self.writing():
                output.close()
            _sync(temporary)
            self._publish(temporary)
        finally:
            temporary.unlink(missing_ok=True)

    def _publish(self, temporary: Path) -> None:
        """Give the file its name, which another process may have taken meanwhile."""
        if not self.overwrite:
            try:
                os.link(temporary, self.path)
                return
            except FileExistsError as error:
                raise UsageError(f"{self.path} exists: name another file") from error
            except OSError:
                pass  # a file system without hard links
        temporary.replace(self.path)


def _check_replaceable(path: Path, source: Path | None, *, overwrite: bool) -> None:
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise UsageError(f"{path} is the video itself: name another file")
    if not stat.S_ISREG(path.lstat().st_mode):
        raise UsageError(f"{path} is not an ordinary file: name another")
    if not overwrite:
        raise UsageError(f"{path} exists: name another file, or overwrite it with --overwrite")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
