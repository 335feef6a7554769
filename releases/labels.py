"""What a release changes of its tools' labels, and the second person's review of exactly that."""

from __future__ import annotations

from releases.models import Release


def is_reviewed(release: Release, tool: str) -> bool:
    """Whether the labels that the release gives this tool stand.

    True when they are the accepted ones (of the agent's active release, or of the installed code), or when a second
    person has reviewed exactly this change of exactly this release. Never true of a tool with `labelled` false.
    """
    raise NotImplementedError
