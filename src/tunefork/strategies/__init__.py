"""How the weights may change: one file per strategy, all on one protocol."""

from __future__ import annotations

from tunefork.strategies.bank import Bank
from tunefork.strategies.bottleneck import Bottleneck, BottleneckSettings
from tunefork.strategies.folder import HEAD_TENSOR, is_adapter
from tunefork.strategies.full import Full
from tunefork.strategies.heads import load_head, save_head
from tunefork.strategies.load import load_adapter
from tunefork.strategies.lora import Lora
from tunefork.strategies.lora_settings import LoraSettings
from tunefork.strategies.lora_start import start_along_gradient
from tunefork.strategies.prefix import Prefix, PrefixSettings, first_tokens
from tunefork.strategies.protocol import Adapter, Mergeable, Strategy
from tunefork.strategies.qlora import Qlora
from tunefork.strategies.residents import Residents
from tunefork.strategies.served import Resident, Stacks, of_stretches

__all__ = [
    "HEAD_TENSOR",
    "Adapter",
    "Bank",
    "Bottleneck",
    "BottleneckSettings",
    "Full",
    "Lora",
    "LoraSettings",
    "Mergeable",
    "Prefix",
    "PrefixSettings",
    "Qlora",
    "Resident",
    "Residents",
    "Stacks",
    "Strategy",
    "first_tokens",
    "is_adapter",
    "load_adapter",
    "load_head",
    "of_stretches",
    "save_head",
    "start_along_gradient",
]
