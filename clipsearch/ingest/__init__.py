"""Files to stored vectors: discover, read, encode, publish."""

from clipsearch.ingest.options import AddListener, AddOptions
from clipsearch.ingest.run import Ingest, IngestSpec, Progress
from clipsearch.ingest.scopes import Scope, scopes_of

__all__ = ["AddListener", "AddOptions", "Ingest", "IngestSpec", "Progress", "Scope", "scopes_of"]
