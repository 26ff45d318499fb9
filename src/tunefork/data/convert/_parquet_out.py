"""Write Parquet, some rows at a time. pyarrow is loaded when such a file is written."""

from __future__ import annotations

from typing import IO, Any

from tunefork.data.convert.shapes import Fields, as_json
from tunefork.data.convert.targets import Column, Columns

_GROUP_ROWS = 4096
_CALL_KEYS, _FUNCTION_KEYS = {"id", "type", "function"}, {"name", "arguments"}


class ParquetRows:
    """A Parquet file of declared columns; what a row does not set is null."""

    def __init__(self, file: IO[bytes], columns: Columns) -> None:
        import pyarrow
        from pyarrow import parquet

        self._columns = columns
        self._schema = pyarrow.schema([(name, _type(kind)) for name, kind in columns.items()])
        self._table = pyarrow.Table
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._group: list[Fields] = []

    def refusal(self, fields: Fields) -> str | None:
        """Say why a row cannot stand among these columns, or None where it can."""
        if not all(map(self._has_room, fields, fields.values())):
            return "the file has other columns, as its first row is of another kind"
        if any(map(_is_odd, _calls(fields))):
            return "a tool call that Parquet does not hold as it is; write JSON lines"
        return None

    def write(self, fields: Fields) -> None:
        """Write a row."""
        self._group.append(
            {name: _value(self._columns[name], value) for name, value in fields.items()}
        )
        if len(self._group) >= _GROUP_ROWS:
            self._flush()

    def finish(self) -> None:
        """Write the last rows and the footer."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Let go of a file that is not to be."""
        self._writer.close()

    def _has_room(self, name: str, value: Any) -> bool:
        kind = self._columns.get(name)
        if kind in ("text", "texts"):
            return isinstance(value, list) == (kind == "texts")
        return kind is not None

    def _flush(self) -> None:
        if self._group:
            self._writer.write_table(self._table.from_pylist(self._group, schema=self._schema))
            self._group = []


def _type(kind: Column) -> Any:  # pyarrow has no types to check against
    import pyarrow as pa

    text = pa.string()
    function = pa.struct([("name", text), ("arguments", text)])
    call = pa.struct([("id", text), ("type", text), ("function", function)])
    turn = pa.struct(
        [
            ("role", text),
            ("content", text),
            ("weight", pa.int64()),
            ("reasoning_content", text),
            ("name", text),
            ("tool_call_id", text),
            ("tool_calls", pa.list_(call)),
        ]
    )
    return {
        "text": text,
        "texts": pa.list_(text),
        "json": text,
        "bool": pa.bool_(),
        "turns": pa.list_(turn),
        "from_value": pa.list_(pa.struct([("from", text), ("value", text)])),
        "rounds": pa.list_(pa.list_(text)),
        "input": pa.struct([("messages", pa.list_(turn)), ("tools", text)]),
    }[kind]


def _value(kind: Column, value: Any) -> Any:  # JSON values
    if kind == "json":
        return as_json(value)
    if kind == "turns":
        return [_turn(turn) for turn in value]
    if kind == "input":
        found = {"messages": _value("turns", value["messages"])}
        return found | ({"tools": as_json(value["tools"])} if "tools" in value else {})
    return value


def _turn(turn: Fields) -> Fields:
    if "tool_calls" not in turn:
        return turn
    calls = []
    for call in turn["tool_calls"]:
        function = dict(call["function"])
        if "arguments" in function and not isinstance(function["arguments"], str):
            function["arguments"] = as_json(function["arguments"])
        calls.append({**call, "function": function})
    return {**turn, "tool_calls": calls}


def _calls(fields: Fields) -> list[Fields]:
    inner = fields.get("input")
    values = [*fields.values(), *(inner.values() if isinstance(inner, dict) else ())]
    return [
        call
        for turns in values
        if isinstance(turns, list)
        for turn in turns
        if isinstance(turn, dict)
        for call in turn.get("tool_calls", ())
    ]


def _is_odd(call: Fields) -> bool:
    has_more = call.keys() - _CALL_KEYS or call["function"].keys() - _FUNCTION_KEYS
    named = (call.get("id", ""), call.get("type", ""))
    if has_more or not all(isinstance(text, str) for text in named):
        return True
    # Half a character stands in JSON as its escape, in Parquet not at all.
    texts = [*named, *map(str, call["function"].values())]
    return any("\ud800" <= character <= "\udfff" for text in texts for character in text)
