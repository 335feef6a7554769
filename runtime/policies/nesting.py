"""How deeply a value of a stranger may be nested. What writes it as JSON stops at 255 containers in each other, what
reads the messages of a server at 200; our own records put a few around it.
"""

from __future__ import annotations

from typing import Any

DEEPEST = 200


def is_too_deep(value: Any) -> bool:
    """Whether there are more than DEEPEST containers in each other."""
    level, depth = _containers([value]), 0
    while level:
        depth += 1
        if depth > DEEPEST:
            return True
        level = _containers(item for each in level for item in (each.values() if isinstance(each, dict) else each))
    return False


def _containers(items: Any) -> list[Any]:
    return [item for item in items if isinstance(item, dict | list)]
