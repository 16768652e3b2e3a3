"""How long hubs and agents wait for one another's word."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds, all of them. Where a bus can lose messages and agents can die alone, each lease is kept by these."""

    accept_s: float = 5.0
    """An agent that was not heard of a request by then has lost it."""
    silence_s: float = 0.2
    """An agent that has had nothing else to say of a request by then says that it has accepted it."""
    lease_s: float = 30.0
    """An agent that is not heard of for so long has lost what it holds; it says `progress` three times as often."""
    resend_s: float = 15.0
    """How often an agent says again what the hub has not confirmed."""
    rejoin_s: float = 5.0
    """How long an agent whose card is gone may come back, as the same process, before its leases are taken back."""
    drain_s: float = 30.0
    """How long an agent that is to end may finish what it holds; then it hands back the rest."""


IN_ONE_PROCESS = None
"""There nothing is lost on the way, and who works and who records live and die together: leases need no keeping."""
