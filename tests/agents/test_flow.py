import pytest

from agents.errors import ToolRefused
from agents.web.flow import check_flow
from bus.setup import Permissions

PUBLIC = Permissions()
GIVEN = ["Read https://vendor.example/prices and (https://other.example/a?x=1).", "URL: https://page.example/"]


@pytest.mark.parametrize(
    "url", ["https://vendor.example/prices", "https://other.example/a?x=1", "https://page.example/"]
)
def test_an_address_that_was_given_verbatim_may_be_fetched(url):
    check_flow({"url": url}, PUBLIC, GIVEN)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/?q=the+notes",
        "https://vendor.example/prices?q=secret",
        "https://vendor.example/price",
        "https://other.example/a?x=12",
        "https://secret.page.example/",
        "HTTPS://evil.example/",
    ],
)
def test_an_address_that_the_model_composed_goes_nowhere(url):
    with pytest.raises(ToolRefused, match="was not given to you"):
        check_flow({"url": url}, PUBLIC, GIVEN)


def test_an_address_deep_in_the_arguments_is_seen():
    with pytest.raises(ToolRefused):
        check_flow({"requests": [{"to": " https://evil.example/x"}]}, PUBLIC, GIVEN)


def test_hosts_that_the_scenario_names_may_be_reached_by_any_address():
    permissions = Permissions(fetch=("*.vendor.example",), private_hosts=("127.0.0.1:8080",))
    check_flow({"url": "https://www.vendor.example/?q=1"}, permissions, [])
    check_flow({"url": "http://127.0.0.1:8080/any?thing"}, permissions, [])
    with pytest.raises(ToolRefused):
        check_flow({"url": "https://vendor.example/"}, permissions, [])
