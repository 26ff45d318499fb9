"""Documents to chunks to an index to passages in a prompt: the retrieval rung of the ladder.

`update_index` (reads and indexes a folder) → `Index.search` → `with_passages` → `cited`.
"""

from tunefork.retrieval.build import build_index, update_index
from tunefork.retrieval.chunks import Chunk
from tunefork.retrieval.embedder import Embedder
from tunefork.retrieval.index import Hit, Index
from tunefork.retrieval.keywords import Keywords
from tunefork.retrieval.prompt import Form, cited, with_passages
from tunefork.retrieval.recall import SourcedQuestion, load_sourced, recall_at
from tunefork.retrieval.words import language_of

__all__ = [
    "Chunk",
    "Embedder",
    "Form",
    "Hit",
    "Index",
    "Keywords",
    "SourcedQuestion",
    "build_index",
    "cited",
    "language_of",
    "load_sourced",
    "recall_at",
    "update_index",
    "with_passages",
]
