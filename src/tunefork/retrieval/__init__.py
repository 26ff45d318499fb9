"""Documents to chunks to an index to passages in a prompt: the retrieval rung of the ladder.

`update_index` (reads and indexes a folder) → `Index.search` → `with_passages` → `cited`.
"""

from tunefork.retrieval.build import build_index, update_index
from tunefork.retrieval.chunks import Chunk
from tunefork.retrieval.embedder import Embedder
from tunefork.retrieval.index import Hit, Index
from tunefork.retrieval.prompt import cited, with_passages
from tunefork.retrieval.recall import SourcedQuestion, load_sourced, recall_at

__all__ = [
    "Chunk",
    "Embedder",
    "Hit",
    "Index",
    "SourcedQuestion",
    "build_index",
    "cited",
    "load_sourced",
    "recall_at",
    "update_index",
    "with_passages",
]
