"""The world behind the tools: calls that arrive, are carried out late, or get lost. Nobody can call them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.runtime.simulation import agent
from tests.runtime.simulation.witness import Sent, Witness


class SaidNo(Exception):
    """As tools.ToolError: the tool declined; nothing happened."""


@dataclass
class Outside:
    witness: Witness
    on_the_way: list[Sent] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)  # of calls with an effect: an idempotent tool looks here

    def receive(self, call: Sent, release: str, scopes: frozenset[str], *, at_once: bool = False) -> None:
        self.witness.sent(call, release, scopes)
        self.on_the_way.append(call)
        if at_once:
            self.carry_out(call)

    def carry_out(self, call: Sent) -> None:
        """Have the effect, unless it came earlier by itself."""
        if not any(waiting is call for waiting in self.on_the_way):
            return
        self._forget(call)
        if agent.RETRY[call.tool] == "idempotent" and call.key in self.keys:
            return
        self.keys.add(call.key)
        self.witness.effect(call)

    def decline(self, call: Sent) -> None:
        """Raises SaidNo, unless the effect came earlier."""
        if any(waiting is call for waiting in self.on_the_way):
            self._forget(call)
            raise SaidNo

    def drift(self, chance: Random) -> None:
        """A call whose sender may be dead arrives by itself, or never."""
        if not self.on_the_way:
            return
        call = chance.choice(self.on_the_way)
        if chance.random() < 0.7:
            self.carry_out(call)
        else:
            self._forget(call)

    def _forget(self, call: Sent) -> None:
        self.on_the_way = [waiting for waiting in self.on_the_way if waiting is not call]
