"""What exists and where it came from: data, specs, bases, runs, models, evaluations, aliases.

`open_registry` → `Registry.writing` with the `add_…` functions, `Registry.reading` with the views.
"""

from tunefork.registry.aliases import (
    current_aliases,
    events_of,
    promote,
    rollback,
    verdict_of,
)
from tunefork.registry.attempts import count_attempt
from tunefork.registry.backup import back_up, restore
from tunefork.registry.clean import clean
from tunefork.registry.database import (
    Registry,
    has_registry,
    make_engine,
    migrate,
    open_registry,
    reading_session,
    writing_session,
)
from tunefork.registry.datasets import SeenData, add_data, count_rows, look_at_data
from tunefork.registry.diffs import diff_datasets, diff_models, diff_runs
from tunefork.registry.files import (
    COPY_LIMIT_BYTES,
    Seen,
    add_folder,
    files_below,
    files_of,
    look_at,
    write_folder,
)
from tunefork.registry.licence import find_licence
from tunefork.registry.lineage import lineage, lineage_text
from tunefork.registry.names import (
    find_model,
    find_run,
    find_version,
    free_model_name,
    known_model,
    model_names,
    newest_run_of,
)
from tunefork.registry.objects import ObjectStore
from tunefork.registry.picture import lineage_picture
from tunefork.registry.record import (
    Bundle,
    SeenBase,
    SeenRun,
    add_base,
    add_evaluation,
    add_model,
    add_run,
    knows_base,
)
from tunefork.registry.signing import check_signature, own_key, read_key, read_signed, sign
from tunefork.registry.tables import BaseModel, Model, Run
from tunefork.registry.verify import verify
from tunefork.registry.views import (
    describe_base,
    last_evaluation,
    list_datasets,
    list_models,
    list_runs,
    run_data,
    run_spec,
    show_dataset,
    show_model,
    show_run,
)

__all__ = [
    "COPY_LIMIT_BYTES",
    "BaseModel",
    "Bundle",
    "Model",
    "ObjectStore",
    "Registry",
    "Run",
    "Seen",
    "SeenBase",
    "SeenData",
    "SeenRun",
    "add_base",
    "add_data",
    "add_evaluation",
    "add_folder",
    "add_model",
    "add_run",
    "back_up",
    "check_signature",
    "clean",
    "count_attempt",
    "count_rows",
    "current_aliases",
    "describe_base",
    "diff_datasets",
    "diff_models",
    "diff_runs",
    "events_of",
    "files_below",
    "files_of",
    "find_licence",
    "find_model",
    "find_run",
    "find_version",
    "free_model_name",
    "has_registry",
    "known_model",
    "knows_base",
    "last_evaluation",
    "lineage",
    "lineage_picture",
    "lineage_text",
    "list_datasets",
    "list_models",
    "list_runs",
    "look_at",
    "look_at_data",
    "make_engine",
    "migrate",
    "model_names",
    "newest_run_of",
    "open_registry",
    "own_key",
    "promote",
    "read_key",
    "read_signed",
    "reading_session",
    "restore",
    "rollback",
    "run_data",
    "run_spec",
    "show_dataset",
    "show_model",
    "show_run",
    "sign",
    "verdict_of",
    "verify",
    "write_folder",
    "writing_session",
]
