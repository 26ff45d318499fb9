"""From drawn tokens to pieces of an answer."""

from __future__ import annotations

from functools import lru_cache

from tunefork.core.errors import ModelError
from tunefork.data.tokenizer import Tokenizer
from tunefork.inference.engine.constraint import Grammars
from tunefork.inference.engine.draw import Drawn
from tunefork.inference.engine.request import Alternative, Ended, Piece, TokenLogProb
from tunefork.inference.engine.row import Row


class Writer:
    """Adds tokens to rows, and says what may be shown."""

    def __init__(self, tokenizer: Tokenizer, grammars: Grammars, end_ids: frozenset[int]) -> None:
        self._tokenizer, self._grammars, self._end_ids = tokenizer, grammars, end_ids
        self._seen = lru_cache(maxsize=1 << 16)(self._text_and_bytes)

    def take(self, row: Row, drawn: Drawn) -> Piece | None:
        """Add a token to a row; return what there is to hand over.

        Raises:
            TuneforkError: The model gave no numbers, or the grammar cannot be followed further.
        """
        if drawn.token < 0:
            raise ModelError(
                "the model's results are no finite numbers",
                where=None if row.entry is None else row.entry.folder,
                hint="tune the adapter again, or use another number format",
            )
        tokens = () if row.request.sampling.n_logprobs is None else (self._told(drawn),)
        if drawn.token in self._end_ids:
            return Piece(row.text.end(), tokens, "stop")
        row.tokens.append(drawn.token)
        usage = row.ticket.usage
        usage.completion_tokens += 1
        if row.matcher is not None:
            row.matcher.take(drawn.token)
        text = row.text.push(drawn.token)
        ended: Ended | None = None
        if row.text.is_stopped or (row.matcher is not None and row.matcher.is_complete):
            ended = "stop"
        elif usage.completion_tokens == row.request.sampling.max_tokens:
            ended = "length"
        if ended is not None:
            text += row.text.end()
            ended = "stop" if row.text.is_stopped else ended
        return Piece(text, tokens, ended) if text or tokens or ended else None

    def _told(self, drawn: Drawn) -> TokenLogProb:
        top = tuple(Alternative(token, *self._seen(token), log) for token, log in drawn.top)
        return TokenLogProb(drawn.token, *self._seen(drawn.token), drawn.logprob, top)

    def _text_and_bytes(self, token: int) -> tuple[str, bytes]:
        text, exact = self._tokenizer.token_text(token), self._grammars.bytes_of(token)
        return text, text.encode() if exact is None else exact
