"""The walls around a child program: limits, namespaces, landlock, a filter of system calls.

`policy.py` says what is wanted and whether what is in force suffices (pure), `filter.py` and `syscalls.py` make the
filter (pure), `enclosing.py` applies all of it, `serving.py` is the child's loop behind the walls.
`python -m node.sandbox` encloses itself and says how that went.
"""

from node.sandbox.policy import Limits
from node.sandbox.serving import Channel, enter, serve

__all__ = ["Channel", "Limits", "enter", "serve"]
