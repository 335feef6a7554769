"""The Agents Rule of Two over a release: untrusted input, private data and acting, never all three without a person.

What counts, by the labels of the release's tools:

- untrusted: a tool's output may hold words of outsiders (`output_trust`). What the user types himself does not count.
- private: a tool's output is secret (`output_secret`), or reading it needs a scope: what not everybody may read is
  somebody's.
- acting: a tool changes something, sends something out or destroys something, unless write tools are off.

A tool that nobody has labelled counts as all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from releases.bundles import Bundle, ToolManifest


@dataclass(frozen=True)
class Exposure:
    """The tools that bring each of the three into a release, and whether people are asked when all are there."""

    untrusted: tuple[str, ...]
    private: tuple[str, ...]
    acting: tuple[str, ...]
    asks: bool

    @property
    def count(self) -> int:
        return sum(map(bool, (self.untrusted, self.private, self.acting)))

    @property
    def is_open(self) -> bool:
        """All three come together, and nobody is asked."""
        return self.count == 3 and not self.asks


def judge(bundle: Bundle) -> Exposure:
    """Say which of the three the release brings together.

    People are asked where provenance is enforced, because a run that has read something untrusted then acts only on
    values that the user or the system speaks for; and where every write is reviewed anyway.
    """
    return Exposure(
        untrusted=_tools(bundle, lambda tool: tool.output_trust == "untrusted"),
        private=_tools(bundle, lambda tool: tool.output_secret or (tool.effect == "read" and bool(tool.scope))),
        acting=_tools(bundle, lambda tool: tool.is_write) if bundle.write_tools_enabled else (),
        asks=bundle.provenance == "enforce" or bundle.force_human_review,
    )


def _tools(bundle: Bundle, counts: Callable[[ToolManifest], bool]) -> tuple[str, ...]:
    return tuple(tool.name for tool in bundle.tools if not tool.labelled or counts(tool))


@dataclass(frozen=True)
class Badge:
    """A word and an icon beside the colour. `about` says what stands behind it."""

    tone: str
    icon: str
    word: str
    about: str


def badge(found: Exposure) -> Badge:
    """What a release brings together of untrusted input, private data and acting."""
    parts = {"untrusted": found.untrusted, "private": found.private, "acts": found.acting}
    about = "; ".join(f"{name}: {', '.join(tools)}" for name, tools in parts.items() if tools)
    names = " + ".join(name for name, tools in parts.items() if tools)
    if found.is_open:
        return Badge("bad", "shield-off", f"{names.capitalize()}: nobody is asked", about)
    if found.count == 3:
        return Badge("wait", "user-check", f"{names.capitalize()}: people are asked", about)
    if not names:
        return Badge("mute", "shield", "None of the three", "It reads nothing untrusted or private, and does not act.")
    return Badge("ok", "shield-check", f"{('One', 'Two')[found.count - 1]} of three: {names}", about)
