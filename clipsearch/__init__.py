"""Search pictures and videos by words."""

from clipsearch.version import VERSION

__version__ = VERSION
__all__ = ["__version__"]
