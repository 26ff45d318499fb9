"""Data in: read any file, recognise its format, split, render to tokens, look before training.

`prepare_file` (reads, recognises, renders) → `preflight` → `split` → `TokenRows.select`.
"""

from tunefork.data.example import Example, Kind, Message, Prompt
from tunefork.data.facts import Facts, facts_of
from tunefork.data.items import Items
from tunefork.data.labels import LabelledTexts, Labelling, read_labelled
from tunefork.data.preflight import Preflight, preflight, preview
from tunefork.data.prepared import TokenFile, prepare_file
from tunefork.data.prompt_rows import PromptRows, known_of, read_prompts, select_prompts
from tunefork.data.prompts import Prompts, prompt_key
from tunefork.data.read import Record, read_records, scan_records
from tunefork.data.recognise import FORMATS, Format, load_examples, recognise, scan_examples
from tunefork.data.render import Rendered, Renderer
from tunefork.data.split import group_rows, split
from tunefork.data.template import DEFAULT_TEMPLATE, ChatTemplate
from tunefork.data.tokenizer import Tokenizer, load_tokenizer
from tunefork.data.tokens import TokenRows

__all__ = [
    "DEFAULT_TEMPLATE",
    "FORMATS",
    "ChatTemplate",
    "Example",
    "Facts",
    "Format",
    "Items",
    "Kind",
    "LabelledTexts",
    "Labelling",
    "Message",
    "Preflight",
    "Prompt",
    "PromptRows",
    "Prompts",
    "Record",
    "Rendered",
    "Renderer",
    "TokenFile",
    "TokenRows",
    "Tokenizer",
    "facts_of",
    "group_rows",
    "known_of",
    "load_examples",
    "load_tokenizer",
    "preflight",
    "prepare_file",
    "preview",
    "prompt_key",
    "read_labelled",
    "read_prompts",
    "read_records",
    "recognise",
    "scan_examples",
    "scan_records",
    "select_prompts",
    "split",
]
