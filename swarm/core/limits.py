"""Tokens and money: reserved before use, settled after; what waits for room and in which order.

A call reserves an upper bound of its tokens and of its price. It is granted at once where it fits and nothing older
waits; else it waits while outstanding reservations can still free room, and is refused only when none is left. Waiting
calls are granted to the oldest request first, so that work begun is finished before work is begun. Amounts are
integers: tokens, and picodollars of money.
"""

import heapq
from dataclasses import dataclass, field
from typing import NamedTuple

from bus.events import ModelAsked, Path, Usage
from bus.setup import Limits, Price

LEAST_ANSWER = 256
"""The smallest `max_tokens` that a grant may lower a call to: less than this is no answer."""

CallKey = tuple[str, int, Path, int]
"""Request, attempt, path, try."""


class Call(NamedTuple):  # one for each call of a model in the log: made in half the time of a frozen dataclass
    """A model call that was asked for."""

    key: CallKey
    order: int
    """Position at which its request was first handed out: the older goes first."""
    input_bound: int
    max_tokens: int
    price: Price | None

    @property
    def tokens(self) -> int:
        """The most that it can use."""
        return self.input_bound + self.max_tokens

    @property
    def money(self) -> int:
        """The most that it can cost, in picodollars; 0 where the price is not known."""
        if self.price is None:
            return 0
        return self.input_bound * self.price.input + self.max_tokens * self.price.output


@dataclass(slots=True)
class Spent:
    """What has been used.

    `unproven` is the part that was counted in full because no answer came; `estimated` tokens are in input and output,
    of calls whose endpoint did not say what they used.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    unproven: int = 0
    estimated: int = 0
    money: int = 0
    calls: int = 0
    price_known: bool = True

    @property
    def tokens(self) -> int:
        """All that counts against the limit."""
        return self.input + self.output + self.unproven


def cost(usage: Usage, price: Price) -> int:
    """Return what a call cost, in picodollars; cached tokens are part of the input at a price of their own."""
    cached = min(usage.cached, usage.input)
    return (usage.input - cached) * price.input + cached * price.cached + usage.output * price.output


@dataclass(slots=True)
class Ledger:
    """What is spent, reserved and waiting."""

    limits: Limits
    spent: Spent = field(default_factory=Spent)
    reserved: dict[CallKey, Call] = field(default_factory=dict)
    reserved_tokens: int = 0
    reserved_money: int = 0
    waiting: dict[CallKey, Call] = field(default_factory=dict)
    queue: list[tuple[int, int, CallKey]] = field(default_factory=list)
    arrivals: int = 0
    beyond: str | None = None
    """In words, what an endpoint billed last that was more than was reserved."""

    def ask(self, call: Call) -> None:
        """Reserve for a call, or let it wait."""
        if (not self.queue or call.order < self.queue[0][0]) and self.fits(call):
            self._reserve(call)
            return
        self.arrivals += 1
        self.waiting[call.key] = call
        heapq.heappush(self.queue, (call.order, self.arrivals, call.key))

    def oldest(self) -> Call | None:
        """Return the call that is granted next."""
        return self.waiting[self.queue[0][2]] if self.queue else None

    def fits(self, call: Call) -> bool:
        """Tell whether there is room for all that a call may use."""
        return call.tokens <= self.tokens_left and (self.limits.money is None or call.money <= self.money_left)

    @property
    def passed(self) -> str | None:
        """Return in words which limit is passed: only what was billed beyond its reservation can pass one."""
        if self.beyond is None:
            return None
        tokens, money = self.spent.tokens + self.reserved_tokens, self.spent.money + self.reserved_money
        if tokens > self.limits.tokens:
            return f"{self.beyond}: {tokens} tokens are spent or reserved, and limits.tokens is {self.limits.tokens}"
        if self.limits.money is not None and money > self.limits.money:
            most = self.limits.money / 1e12
            return f"{self.beyond}: {money / 1e12:.4f} USD are spent or reserved, and limits.money is {most:.4f}"
        return None

    @property
    def tokens_left(self) -> int:
        """Neither spent nor reserved."""
        return self.limits.tokens - self.spent.tokens - self.reserved_tokens

    @property
    def money_left(self) -> int:
        """Neither spent nor reserved, in picodollars."""
        return (self.limits.money or 0) - self.spent.money - self.reserved_money

    def grantable(self, call: Call) -> int | None:
        """Return the `max_tokens` at which a waiting call can be granted now; 0: never, None: wait."""
        if self.fits(call):
            return call.max_tokens
        if self.reserved:
            return None
        room = self.tokens_left - call.input_bound
        if self.limits.money is not None and call.price is not None and call.price.output:
            room = min(room, (self.money_left - call.input_bound * call.price.input) // call.price.output)
        lowered = min(room, call.max_tokens)
        return lowered if lowered >= min(LEAST_ANSWER, call.max_tokens) else 0

    def grant(self, key: CallKey, max_tokens: int) -> None:
        """Reserve for a call that waited."""
        call = self.waiting[key]
        self.drop(key)
        self._reserve(Call(key, call.order, call.input_bound, max_tokens, call.price))

    def drop(self, key: CallKey) -> None:
        """Forget a waiting call."""
        self.waiting.pop(key, None)
        while self.queue and self.queue[0][2] not in self.waiting:
            heapq.heappop(self.queue)

    def settle(self, key: CallKey, usage: Usage) -> None:
        """Turn a reservation into what was used."""
        call, spent = self._release(key), self.spent
        spent.input += usage.input
        spent.output += usage.output
        spent.cached += usage.cached
        if usage.estimated:
            spent.estimated += usage.input + usage.output
        spent.calls += 1
        if call.price is None:
            spent.price_known = False
        else:
            spent.money += cost(usage, call.price)
        if usage.input > call.input_bound or usage.output > call.max_tokens:
            self.beyond = (
                f"the endpoint billed {usage.input} + {usage.output} tokens "
                f"where at most {call.input_bound} + {call.max_tokens} were reserved"
            )

    def settle_at_zero(self, key: CallKey) -> None:
        """Free a reservation: nothing was used."""
        self._release(key)

    def settle_unproven(self, key: CallKey) -> None:
        """Count a reservation in full: something was sent, and nobody knows what it cost."""
        if key in self.waiting:
            self.drop(key)
        elif key in self.reserved:
            call = self._release(key)
            self.spent.unproven += call.tokens
            self.spent.money += call.money
            self.spent.calls += 1
            self.spent.price_known = self.spent.price_known and call.price is not None

    def settle_all_unproven(self) -> None:
        """Count in full what is under way: nobody waits for it any more, and it may be billed all the same."""
        for key in list(self.reserved):
            self.settle_unproven(key)

    def _reserve(self, call: Call) -> None:
        self.reserved[call.key] = call
        self.reserved_tokens += call.tokens
        self.reserved_money += call.money

    def _release(self, key: CallKey) -> Call:
        call = self.reserved.pop(key)
        self.reserved_tokens -= call.tokens
        self.reserved_money -= call.money
        return call


def call_of(event: ModelAsked, request: str, order: int, price: Price | None) -> Call:
    """Return the call that a `ModelAsked` wants."""
    key = (request, event.attempt, event.path, event.number)
    return Call(key, order, event.input_bound, event.max_tokens, price)
