"""Data in: read any file, recognise its format, split, render to tokens, look before training.

`load_examples` → `split` → `Renderer.render` → `preflight` → `TokenRows`.
"""

from tunefork.data.example import Example, Message
from tunefork.data.preflight import Preflight, preflight, preview
from tunefork.data.read import Record, read_records, scan_records
from tunefork.data.recognise import FORMATS, Format, load_examples, recognise
from tunefork.data.render import Rendered, Renderer
from tunefork.data.split import split
from tunefork.data.template import DEFAULT_TEMPLATE, ChatTemplate
from tunefork.data.tokenizer import Tokenizer, load_tokenizer
from tunefork.data.tokens import TokenRows

__all__ = [
    "DEFAULT_TEMPLATE",
    "FORMATS",
    "ChatTemplate",
    "Example",
    "Format",
    "Message",
    "Preflight",
    "Record",
    "Rendered",
    "Renderer",
    "TokenRows",
    "Tokenizer",
    "load_examples",
    "load_tokenizer",
    "preflight",
    "preview",
    "read_records",
    "recognise",
    "scan_records",
    "split",
]
