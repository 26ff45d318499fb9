"""`tunefork plan SPEC`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tunefork.cli.options import Json, SpecPath

# What the table adds up of the parts that `--json` tells one by one.
_PARTS = {
    "weights": ("weights",),
    "state": ("gradients", "optimizer"),
    "activations": ("activations", "head"),
}

_WIDE = 96  # columns of a terminal


def plan(
    spec: SpecPath,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="SIZE", help="Plan for a GPU with that much.")
    ] = None,
    ram: Annotated[
        str | None,
        typer.Option("--ram", metavar="SIZE", help="Plan for a machine with that much, no GPU."),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Run a few real steps of each strategy, and measure.")
    ] = False,
    json: Json = False,
) -> None:
    """Say what each strategy would take of memory and time, and which to choose."""
    from tunefork.cli import show
    from tunefork.core.errors import UsageError
    from tunefork.core.units import parse_bytes
    from tunefork.workflow.spec import load_project

    if gpu is not None and ram is not None:
        raise UsageError("`--gpu` and `--ram` name two machines", hint="give one of them")
    if probe and (gpu is not None or ram is not None):
        raise UsageError(
            "`--probe` measures this machine, and another one is named",
            hint="leave out `--gpu` and `--ram`, or `--probe`",
        )
    sizes = [parse_bytes(size) if size is not None else None for size in (gpu, ram)]
    project = load_project(spec)
    show.prepare_process()
    from tunefork.workflow.machine import gpu_of, processor_with, this_machine
    from tunefork.workflow.plan import plan as make_plan

    gpu_bytes, ram_bytes = sizes
    machine = this_machine()
    if gpu_bytes is not None:
        machine = gpu_of(gpu_bytes)
    elif ram_bytes is not None:
        machine = processor_with(ram_bytes)
    with show.TalkSink() as sink:
        result = make_plan(project, machine, probe=probe, sink=sink)
    if json:
        show.print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tunefork.core.units import bytes_text, count_text, duration_text

    console = Console(highlight=False)
    machine = result["machine"]
    mixed_in = result["replayed_rows"]
    rows = f"{result['rows']:,} rows" + (f" and {mixed_in:,} general ones" if mixed_in else "")
    console.print(
        f"On {machine['name']} with {bytes_text(machine['free_bytes'])} free of "
        f"{bytes_text(machine['memory_bytes'])}: {rows}, "
        f"{result['tokens_per_epoch']:,} tokens an epoch, the longest row "
        f"{result['longest_row']:,}",
        soft_wrap=True,
    )
    shown_parts = _PARTS if console.width >= _WIDE else {}
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("trained", "file", "memory", *shown_parts, "time", "fits"):
        table.add_column(column, justify="right", no_wrap=True)
    for found in result["candidates"]:
        name, seconds = found["strategy"], found["seconds"]
        is_best = name == result["recommended"]
        table.add_row(
            name,
            count_text(found["trainable_parameters"]),
            bytes_text(found["adapter_bytes"]),
            bytes_text(found["peak_bytes"]) + ("" if found["measured"] else "*"),
            *(
                bytes_text(sum(found["memory"][part] for part in parts))
                for parts in shown_parts.values()
            ),
            "?" if seconds is None else duration_text(seconds),
            "yes" if found["fits"] else "no",
            style="bold" if is_best else "",
        )
    console.print(table)
    console.print("* predicted; its parts always are. A run may end earlier than the time says.")
    if not shown_parts:
        console.print("A wider terminal shows what the memory is made of, and so does `--json`.")
    if not machine["is_this"]:
        has = " It is taken to have tcmalloc." if machine["device"] == "cpu" else ""
        console.print(f"? Only this machine can be timed.{has}")
    if machine["wastes_memory"]:
        console.print(
            "The C library's own allocator leaves gaps: with tcmalloc (on Debian and Ubuntu "
            "`apt install libtcmalloc-minimal4`) training takes less memory.",
            soft_wrap=True,
            markup=False,
        )
    for found in result["candidates"]:
        if found["note"]:
            console.print(f"{found['strategy']}: {found['note']}", soft_wrap=True, markup=False)
    console.print()
    console.print(
        f"Recommended: {result['recommended'] or 'none'}. {result['reason']}",
        markup=False,
    )
    _print_settings(result, console)


def _print_settings(result: dict[str, Any], console: Any) -> None:
    for found in result["candidates"]:
        if found["strategy"] == result["recommended"]:
            shown = ", ".join(
                f"{row['key']} {row['value']} ({row['origin']})"
                for row in found["settings"]
                if row["key"] != "strategy"
            )
            console.print(f"Its settings: {shown}", markup=False)
