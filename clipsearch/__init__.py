"""Search pictures and videos by words."""

from clipsearch.version import VERSION as __version__

__all__ = ["__version__"]
