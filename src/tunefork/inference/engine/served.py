"""What adapters in memory add for the engine's rows."""

from __future__ import annotations

from collections.abc import Sequence

from tunefork.inference.decoder import Added
from tunefork.inference.engine.row import Row
from tunefork.models.routing import serving
from tunefork.strategies import Resident, Residents, Stacks, of_stretches


class Served:
    """The residents of a model; each row has the one of its request, or none."""

    def __init__(self, residents: Residents) -> None:
        self._residents = residents
        self._stacks = Stacks(residents.sites, residents.model.device)

    def prefix(self, row: Row) -> int:
        """Return the number of a row's learned prefix."""
        resident = _resident(row)
        return 0 if resident is None else resident.number

    def over(self, stretches: Sequence[tuple[int, Row]]) -> Added:
        """Return what is added for tokens that are stretches of rows (see `Adapters`)."""
        found = [(length, _resident(row)) for length, row in stretches]
        sites, device = self._residents.sites, self._residents.model.device
        return None, serving(of_stretches(sites, found, device))

    def beside(self, n_slots: int, rows: Sequence[Row]) -> Added:
        """Return what is added for one token in each slot (see `Adapters`)."""
        wanted = {row.slot: found for row in rows if (found := _resident(row)) is not None}
        return None, serving(self._stacks.added(n_slots, wanted))


def _resident(row: Row) -> Resident | None:
    return None if row.entry is None else row.entry.resident
