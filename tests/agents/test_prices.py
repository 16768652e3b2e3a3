import subprocess
import sys

import pytest

from agents.completions.prices import FREE, price_of
from bus.setup import Price


def test_a_known_model_costs_exact_picodollars_a_token() -> None:
    assert price_of("openai", "gpt-4o-mini") == Price(input=150_000, output=600_000, cached=75_000)


def test_the_url_decides_who_is_asked_for_the_price() -> None:
    known = price_of("openai", "gpt-4o-mini")
    assert price_of("lab", "gpt-4o-mini", "https://api.openai.com/v1") == known
    assert price_of("openai", "gpt-4o-mini", "http://127.0.0.1:8080/v1") is None


def test_a_price_that_grows_with_the_prompt_counts_at_its_highest() -> None:
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    price = price_of("google", "gemini-2.5-pro")
    assert price is not None
    long_prompt = calc_price(Usage(input_tokens=500_000), "gemini-2.5-pro", provider_id="google")
    assert price.input * 500_000 == long_prompt.input_price * 10**12


@pytest.mark.parametrize(("provider", "model"), [("openai", "no-such-model"), ("lab", "gpt-4o-mini")])
def test_an_unknown_price_is_none_and_not_nothing(provider: str, model: str) -> None:
    assert price_of(provider, model) is None


@pytest.mark.parametrize("provider", ["local", "scripted"])
def test_what_runs_here_costs_nothing(provider: str) -> None:
    assert price_of(provider, "whatever") == FREE


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "10.1.2.3", "[::1]:80", "my-box"])
def test_a_machine_of_ones_own_has_no_price_and_mostly_needs_no_list(host: str) -> None:
    assert price_of("openai", "gpt-4o-mini", f"http://{host}/v1") is None
    program = (
        "import sys\n"
        "from agents.completions.prices import price_of\n"
        f"price_of('openai', 'gpt-4o-mini', 'http://{host}/v1')\n"
        "print('genai_prices' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(host == "my-box")


def test_prices_are_looked_up_without_a_socket() -> None:
    program = (
        "import sys, threading\n"
        "def audit(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'): raise SystemExit(f'went out: {args}')\n"
        "sys.addaudithook(audit)\n"
        "from agents.completions.prices import price_of\n"
        "assert price_of('openai', 'gpt-4o-mini') and price_of('openai', 'nope') is None\n"
        "assert threading.active_count() == 1, 'something renews prices in the background'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
