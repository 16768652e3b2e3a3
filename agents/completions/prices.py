"""What a token costs at a provider, from the price list that `genai-prices` ships; nothing is fetched.

That package can renew its list over the network, but only if told to start doing so, which nobody here does.
"""

import ipaddress
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bus.setup import Price

if TYPE_CHECKING:
    from genai_prices.types import TieredPrices

FREE = Price(input=0, output=0, cached=0)
_AT_NO_COST = frozenset({"llamacpp", "local", "ollama", "recorded", "scripted"})
_PICODOLLARS = 1_000_000
"""Of one dollar a million tokens."""


def price_of(provider: str, model: str, url: str | None = None) -> Price | None:
    """Return the price today of a model, None where it is not known.

    `url`: the endpoint's; where it is given it decides the provider. Where a price depends on the length of the prompt
    the highest counts, so that a limit of money holds. The first call that needs the list takes about half a second.
    """
    if provider in _AT_NO_COST:
        return FREE
    if url is not None and is_nearby(url):
        return None
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    try:
        _, found = get_snapshot().find_provider_model(model, None, None if url else provider, url)
    except LookupError:
        return None
    prices = found.get_prices(datetime.now(UTC)).__dict__
    sent, written = _picodollars(prices.get("input_mtok")), _picodollars(prices.get("output_mtok"))
    if sent is None or written is None:
        return None
    cached = _picodollars(prices.get("cache_read_mtok"))
    return Price(input=sent, output=written, cached=sent if cached is None else cached)


def is_nearby(url: str) -> bool:
    """Tell whether an endpoint is one of a machine that is called by its address: no provider's is."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _picodollars(usd_a_million: "Decimal | TieredPrices | None") -> int | None:
    if usd_a_million is None:
        return None
    if isinstance(usd_a_million, Decimal):
        highest = usd_a_million
    else:
        highest = max(usd_a_million.base, *(tier.price for tier in usd_a_million.tiers))
    return int((highest * _PICODOLLARS).to_integral_value(ROUND_CEILING))
