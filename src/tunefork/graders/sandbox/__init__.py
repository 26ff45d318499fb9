"""Run a stranger's `grade(sample, item)` where it can do no harm.

The program runs in a process of its own without network, without files but Python's own
(read-only), without the user's environment, unable to start processes, and bounded in time,
memory and output. Entry points: `Sandbox`, which runs; `verify`, which attacks the sandbox of
this machine from inside and says what holds. What a server must know is
`verify().is_verified`: on systems without Linux namespaces or bubblewrap it is false.
"""

from tunefork.graders.sandbox.backends import WALLS_ONLY
from tunefork.graders.sandbox.limits import Limits
from tunefork.graders.sandbox.run import Sandbox
from tunefork.graders.sandbox.verify import Verification, verify

__all__ = ["WALLS_ONLY", "Limits", "Sandbox", "Verification", "verify"]
