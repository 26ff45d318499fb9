"""A model folder's tokenizer, without transformers: `tokenizer.json` and the files beside it.

Gives the same ids as `transformers.AutoTokenizer` with `add_special_tokens=False`.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

from tunefork.core.errors import ModelError
from tunefork.core.hashing import hash_json

# Writers put 1e30 where they mean "no limit".
_NO_LIMIT = 10**9
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx")


class Encoded:
    """The tokens of one text, and where in the text each begins."""

    def __init__(self, encoding: tokenizers.Encoding) -> None:
        self._encoding = encoding

    @property
    def ids(self) -> list[int]:
        """The ids, (n_tokens,)."""
        return self._encoding.ids

    def first_from(self, character: int) -> int:
        """Return the first token that begins at a character or behind it."""
        # Halving asks for a few places only; a list of all would cost as much as the tokens.
        places = range(len(self._encoding))
        return bisect.bisect_left(places, character, key=self._begin)

    def _begin(self, token: int) -> int:
        place = self._encoding.token_to_chars(token)
        assert place is not None, f"there is no token {token}"
        return place[0]


@dataclass(frozen=True)
class Tokenizer:
    """Text to token ids and back. Build one with `load_tokenizer`.

    `special_tokens` are the named ones a chat template sees (`bos_token`, ...). `eos_ids` holds
    every id that the folder says ends a turn. `model_max_length` counts tokens; None where the
    folder names no limit. `adds_bos` says whether plain text gets the begin token in front.
    """

    backend: tokenizers.Tokenizer = field(repr=False)
    special_tokens: Mapping[str, str]
    eos_ids: frozenset[int]
    chat_template: str | None
    model_max_length: int | None
    adds_bos: bool
    added_ids: Mapping[str, int] = field(repr=False)  # tokens that are matched whole, before all

    @property
    def bos_token(self) -> str | None:
        """The begin token, where there is one."""
        return self.special_tokens.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """The end-of-text token, where there is one."""
        return self.special_tokens.get("eos_token")

    @property
    def pad_token(self) -> str | None:
        """The padding token, where there is one."""
        return self.special_tokens.get("pad_token")

    def fingerprint(self) -> str:
        """Return a hash of everything that decides which ids a text gets, or what they mean."""
        return hash_json(
            [
                tokenizers.__version__,
                self.backend.to_str(),
                dict(self.special_tokens),
                sorted(self.eos_ids),
                self.adds_bos,
                dict(self.added_ids),
            ]
        )

    @property
    def vocab_size(self) -> int:
        """The number of tokens, added ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: nothing is added, special tokens in it are recognised."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_with_places(self, text: str) -> Encoded:
        """Return a text's tokens together with where each begins."""
        return Encoded(self.backend.encode(text, add_special_tokens=False))

    def encode_all(self, texts: Sequence[str]) -> list[Encoded]:
        """Return `encode_with_places` of each text; other threads go on meanwhile."""
        found = self.backend.encode_batch(list(texts), add_special_tokens=False)
        return [Encoded(encoding) for encoding in found]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Return the text of some ids."""
        return self.backend.decode(ids, skip_special_tokens=skip_special)

    def token_text(self, token_id: int) -> str:
        """Return what one token reads as; its raw name where it is only part of a character."""
        text = self.backend.decode([token_id], skip_special_tokens=False)
        if text and "\ufffd" not in text:
            return text
        return self.backend.id_to_token(token_id) or text


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer of a Hugging Face model folder.

    Raises:
        ModelError: where the folder or its `tokenizer.json` is missing or broken.
    """
    backend = _load_backend(folder)
    settings = _settings(folder)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    special_tokens = _named_tokens(settings, vocabulary, folder)
    _register(backend, settings, special_tokens)
    added_ids = {token.content: key for key, token in backend.get_added_tokens_decoder().items()}
    adds_bos = _adds_bos(backend, special_tokens.get("bos_token"))
    # Only asked for above. Left in place it would trim spaces off the offsets of some tokens,
    # and a token that begins before the answer could no longer be told from one that does not.
    backend.post_processor = None
    return Tokenizer(
        backend=backend,
        special_tokens=special_tokens,
        eos_ids=_eos_ids(folder, special_tokens.get("eos_token"), vocabulary),
        chat_template=_chat_template(folder, settings),
        model_max_length=_max_length(folder, settings),
        adds_bos=adds_bos,
        added_ids=added_ids,
    )


def _load_backend(folder: Path) -> tokenizers.Tokenizer:
    path = folder / "tokenizer.json"
    if not folder.is_dir():
        raise ModelError("there is no such model folder", where=folder, hint="check `base`")
    if not path.is_file():
        older = sorted(
            p.name for p in folder.iterdir() if p.name in ("tokenizer.model", "vocab.json")
        )
        why = f" (only the older {older[0]})" if older else ""
        raise ModelError(
            f"the folder holds no `tokenizer.json`{why}",
            where=folder,
            hint="name a Hugging Face model folder; an older tokenizer becomes one with "
            "`AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`",
        )
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(
            f"`tokenizer.json` cannot be read: {error}",
            where=path,
            hint="fetch the file again; it may be cut off or made by a newer version",
        ) from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read_json(path: Path) -> dict[str, Any]:
    """Return a settings file's object; an absent file is an empty one."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"broken JSON: {error}", where=path, hint="fetch the file again"
        ) from error
    if not isinstance(value, dict):
        raise ModelError("the file holds no JSON object", where=path, hint="fetch the file again")
    return value


def _settings(folder: Path) -> dict[str, Any]:
    settings = _read_json(folder / "tokenizer_config.json")
    if "added_tokens_decoder" not in settings:  # the older form, where this file has the last word
        settings |= _read_json(folder / "special_tokens_map.json")
    return settings


def _token_content(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _named_tokens(
    settings: Mapping[str, Any], vocabulary: Mapping[str, int], folder: Path
) -> dict[str, str]:
    """Return `bos_token`, `eos_token` and their like, as far as the vocabulary has them."""
    named = {
        key: content
        for key, value in settings.items()
        if key.endswith("_token") and (content := _token_content(value)) is not None
    }
    eos_token = named.get("eos_token")
    if eos_token is not None and eos_token not in vocabulary:
        raise ModelError(
            f"the end token `{eos_token}` is not in the vocabulary",
            where=folder / "tokenizer_config.json",
            hint="correct `eos_token`, or fetch the tokenizer's files again",
        )
    return {key: content for key, content in named.items() if content in vocabulary}


def _register(
    backend: tokenizers.Tokenizer, settings: Mapping[str, Any], special_tokens: Mapping[str, str]
) -> None:
    """Have every special token that only the settings name recognised in text."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    more = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    names = [*special_tokens.values(), *(_token_content(value) for value in more)]
    # A token outside the vocabulary would get an id that the model has no row for.
    backend.add_special_tokens(
        [
            name
            for name in names
            if name and name not in known and backend.token_to_id(name) is not None
        ]
    )


def _adds_bos(backend: tokenizers.Tokenizer, bos_token: str | None) -> bool:
    if bos_token is None:
        return False
    return backend.encode("a").ids[:1] == [backend.token_to_id(bos_token)]


def _eos_ids(folder: Path, eos_token: str | None, vocabulary: Mapping[str, int]) -> frozenset[int]:
    generation = _read_json(folder / "generation_config.json")
    named = generation.get("eos_token_id")
    if named is None:
        named = _read_json(folder / "config.json").get("eos_token_id")
    ids = named if isinstance(named, list) else [named]
    known = set(vocabulary.values())
    found = {key for key in ids if isinstance(key, int) and key in known}
    return frozenset(found | ({vocabulary[eos_token]} if eos_token else set()))


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ModelError("not UTF-8", where=path, hint="fetch the file again") from error
    found = settings.get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _max_length(folder: Path, settings: Mapping[str, Any]) -> int | None:
    config = _read_json(folder / "config.json")
    inner = config.get("text_config")
    places = [config, inner if isinstance(inner, dict) else {}]
    limits = [place.get(key) for place in places for key in _CONTEXT_KEYS]
    limits.append(settings.get("model_max_length"))
    known = [limit for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    return int(min(known)) if known else None
