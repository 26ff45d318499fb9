"""The doctor: what is wrong with a data file before it is trained on, and what can be mended.

`read_rows` → `examine` → findings; `fix_file` → `write_fixed`, and `undo`; `select_rows`.
The checks are listed in `table`, and described in `docs/checks.md`.
"""

from tunefork.data.doctor.context import Context, Tokens
from tunefork.data.doctor.examine import examine
from tunefork.data.doctor.finding import Finding, Severity
from tunefork.data.doctor.fit import count_tokens
from tunefork.data.doctor.fix import Change, Fixed, changes_path, fix_file, undo, write_fixed
from tunefork.data.doctor.page import write_page
from tunefork.data.doctor.rows import Row, Rows, read_rows
from tunefork.data.doctor.select import Selection, select_rows
from tunefork.data.doctor.table import CHECKS

__all__ = [
    "CHECKS",
    "Change",
    "Context",
    "Finding",
    "Fixed",
    "Row",
    "Rows",
    "Selection",
    "Severity",
    "Tokens",
    "changes_path",
    "count_tokens",
    "examine",
    "fix_file",
    "read_rows",
    "select_rows",
    "undo",
    "write_fixed",
    "write_page",
]
