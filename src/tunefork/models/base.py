"""Find a base model: the bundled `tiny`, a folder, or a hub id. No weights are read here."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tunefork.core.errors import ModelError, did_you_mean
from tunefork.core.hashing import hash_file, hash_json

_BUNDLED = {"tiny": Path(__file__).parent / "tiny"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = [
    *("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model"),
    *("README.md", "LICENSE*"),  # which say what may be done with it
]
_DESCRIBING = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class Base:
    """A base model's folder, in Hugging Face's format."""

    name: str  # as the user wrote it
    folder: Path
    is_folder: bool = False  # the name is a path, and means another place elsewhere

    @property
    def address(self) -> str:
        """What finds it again from anywhere on this machine."""
        return str(self.folder) if self.is_folder else self.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's `config.json`."""
        path = self.folder / "config.json"
        try:
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise _bad_config(path, str(error)) from error
        if not isinstance(config, dict):
            raise _bad_config(path, "it holds no JSON object")
        return config

    @cached_property
    def weight_files(self) -> tuple[Path, ...]:
        """The safetensors files, in name order."""
        return tuple(sorted(self.folder.glob("*.safetensors")))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that decides what the model computes."""
        described = [self.folder / name for name in _DESCRIBING]
        return (*(path for path in described if path.is_file()), *self.weight_files)

    @property
    def weight_bytes(self) -> int:
        """The size of the weight files."""
        return sum(path.stat().st_size for path in self.weight_files)

    @property
    def max_length(self) -> int | None:
        """The longest row the model was made for, in tokens, where its config says so."""
        for key in ("max_position_embeddings", "n_positions"):
            if isinstance(self.config.get(key), int):
                return int(self.config[key])
        return None

    @property
    def hidden_size(self) -> int | None:
        """The width of its layers, where its config says so."""
        for key in ("hidden_size", "n_embd"):
            if isinstance(self.config.get(key), int):
                return int(self.config[key])
        return None

    def hash(self) -> str:
        """Return one hash over every file that decides what the model computes.

        A file that the system says is untouched is read once per process; see `hash_anew`.
        """
        return hash_json(self.file_hashes())

    def hash_anew(self) -> str:
        """Return the same hash from the bytes as they are now, every one of them read."""
        return hash_json({path.name: hash_file(path) for path in self.files})

    def file_hashes(self) -> dict[str, str]:
        """Return the hash of each file by its name."""
        return {path.name: _hash_untouched(path, *_stamp(path)) for path in self.files}


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes with every write; a program may set back all but the last of it."""
    try:
        seen = path.stat()
    except OSError:  # gone meanwhile, which reading it tells
        return ()
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


@lru_cache(maxsize=1024)
def _hash_untouched(path: Path, *stamp: int) -> str:
    return hash_file(path)


def find_base(name: str, relative_to: Path | None = None) -> Base:
    """Return the base that `name` stands for.

    Args:
        name: `tiny`, a folder, or a hub id such as `HuggingFaceTB/SmolLM2-135M-Instruct`.
        relative_to: The folder that a relative folder is looked for in first.

    Raises:
        ModelError: There is no such base, or it is no safetensors model folder.
    """
    if name in _BUNDLED:
        return Base(name, _BUNDLED[name])
    for folder in _candidates(name, relative_to):
        if folder.is_dir():
            return _checked(Base(name, folder.resolve(), is_folder=True))
        if folder.is_file():
            raise ModelError(
                f"the base `{name}` is a file",
                where=folder,
                hint="name the folder that holds config.json and the safetensors files",
            )
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return _checked(Base(name, _download(name)))
    raise ModelError(
        f"there is no base `{name}`",
        hint=did_you_mean(name, list(_BUNDLED))
        or "use `tiny`, a folder with a Hugging Face model, or a hub id such as owner/model",
    )


def find_local_base(name: str, relative_to: Path | None = None) -> Base | None:
    """Return the base that `name` stands for where it is on this machine; nothing is fetched.

    Raises:
        ModelError: It is here, and no model folder.
    """
    if name in _BUNDLED or any(place.exists() for place in _candidates(name, relative_to)):
        return find_base(name, relative_to)
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=True)
    except (LocalEntryNotFoundError, OSError):
        return None
    return _checked(Base(name, Path(found)))


def _candidates(name: str, relative_to: Path | None) -> list[Path]:
    given = Path(os.path.expanduser(name))  # leaves an unknown `~name` as it is
    if given.is_absolute() or relative_to is None:
        return [given]
    return [relative_to / given, given]


def _checked(base: Base) -> Base:
    if not (base.folder / "config.json").is_file():
        raise ModelError(
            f"the folder `{base.name}` is no model: it has no config.json",
            where=base.folder,
            hint="a Hugging Face model folder holds config.json, tokenizer.json and *.safetensors",
        )
    if not base.weight_files:
        pickles = sorted([*base.folder.glob("*.bin"), *base.folder.glob("*.pt*")])
        if pickles:
            raise ModelError(
                f"the weights of `{base.name}` are a pickle ({pickles[0].name}), "
                "which can run code when it is read",
                where=pickles[0],
                hint="convert it: load it where you trust it and call "
                "`model.save_pretrained(folder)`, which writes safetensors",
            )
        raise ModelError(
            f"the folder `{base.name}` has no *.safetensors file",
            where=base.folder,
            hint="copy or download the weights into it",
        )
    if not isinstance(base.config.get("model_type"), str):
        raise _bad_config(base.folder / "config.json", "it names no `model_type`")
    return base


def _bad_config(path: Path, reason: str) -> ModelError:
    hint = "fetch the file again; a Hugging Face model folder has one"
    return ModelError(f"not a model's config: {reason}", where=path, hint=hint)


def _download(name: str) -> Path:
    # The hub client's own cache: a base that was fetched once is found again offline.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"cannot get the base `{name}` from the hub: {reason}",
            hint="check the name and the network, or name a folder on this machine",
        ) from error
