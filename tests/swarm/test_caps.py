"""What is wished and what is allowed come together: never more than either."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from agents.errors import ToolRefused
from agents.web.addresses import Reach
from bus.setup import Limits, Permissions
from swarm.submissions.caps import NOTHING, capped_limits, capped_permissions, common_fetch

HOSTS = ["x.org", "a.x.org", "b.a.x.org", "xx.org", "org", "1.2.3.4", "[2606::1]"]
ENTRIES = st.builds(
    lambda star, host, port: f"{star if host[0].isalpha() else ''}{host}{port}",
    st.sampled_from(["", "*."]),
    st.sampled_from(HOSTS),
    st.sampled_from(["", ":80", ":443", ":8080"]),
)
FETCH = st.sampled_from(["public", "none"]) | st.lists(ENTRIES, max_size=3).map(tuple)
PRIVATE = st.lists(st.sampled_from(["127.0.0.1:80", "127.0.0.1:8080", "x.org:9000"]), max_size=2).map(tuple)
URLS = st.builds(
    lambda host, port: URL(f"http://{host}:{port}/"),
    st.sampled_from([*HOSTS, "127.0.0.1"]),
    st.sampled_from([80, 443, 8080, 9000]),
)


def reaches(permissions: Permissions, url: URL) -> bool:
    """Tell whether this page may be fetched, at some address or other."""
    try:
        Reach.of(permissions).admit(url)
    except ToolRefused:
        return False
    return True


@given(FETCH, FETCH, URLS)
def test_a_page_may_be_fetched_where_both_allow_it_and_only_there(one, other, url):
    both = Permissions(fetch=common_fetch(one, other))
    assert reaches(both, url) == (reaches(Permissions(fetch=one), url) and reaches(Permissions(fetch=other), url))


@given(FETCH, PRIVATE, FETCH, PRIVATE, URLS)
def test_private_hosts_beside_them_never_add_what_one_forbids(one, own, other, others, url):
    wanted, cap = Permissions(fetch=one, private_hosts=own), Permissions(fetch=other, private_hosts=others)
    got = capped_permissions(wanted, cap)
    assert not reaches(got, url) or (reaches(wanted, url) and reaches(cap, url))
    assert {*got.private_hosts} == {*own} & {*others}


@given(FETCH, FETCH, URLS)
def test_capping_twice_is_capping_once(one, other, url):
    wanted, cap = Permissions(fetch=one), Permissions(fetch=other)
    once = capped_permissions(wanted, cap)
    assert reaches(capped_permissions(once, cap), url) == reaches(once, url)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("public", "public", "public"),
        ("public", "none", "none"),
        (("x.org",), "public", ("x.org",)),
        (("x.org:8080", "y.org:443"), "public", ("y.org:443",)),
        (("*.x.org",), ("a.x.org", "x.org"), ("a.x.org",)),
        (("*.x.org:8080",), ("*.a.x.org",), ()),
        (("*.x.org",), ("*.a.x.org:443",), ("*.a.x.org:443",)),
        (("X.org",), ("x.org",), ("x.org",)),
        (("[2606::1]:443",), ("[2606:0::1]",), ("[2606::1]:443",)),
        (("not a host", "x.org"), ("x.org", "/"), ("x.org",)),
    ],
)
def test_hosts_in_common(one, other, both):
    assert common_fetch(one, other) == both
    assert common_fetch(other, one) == both


def test_code_in_the_sandbox_reaches_no_more_than_both_allow():
    wanted = Permissions(sandbox=("pypi.org", "x.org"))
    assert capped_permissions(wanted, Permissions(sandbox=("*.org", "x.org"))).sandbox == ("pypi.org", "x.org")
    assert capped_permissions(wanted, Permissions()).sandbox == ()


def test_nothing_caps_to_nothing():
    wanted = Permissions(private_hosts=("127.0.0.1:80",), sandbox=("x.org",))
    assert capped_permissions(wanted, NOTHING) == NOTHING


LIMITS = st.builds(
    Limits,
    **{name: st.integers(1, 100) for name in Limits.model_fields if name != "money"},
    money=st.none() | st.integers(0, 9),
)


@given(LIMITS, st.dictionaries(st.sampled_from([*Limits.model_fields]), st.integers(1, 100)))
def test_a_limit_is_the_smaller_one_and_what_is_not_capped_stays(wanted, cap):
    got = capped_limits(wanted, cap)
    for name in Limits.model_fields:
        wish, most = getattr(wanted, name), cap.get(name)
        assert getattr(got, name) == min((one for one in (wish, most) if one is not None), default=None)
    assert capped_limits(got, cap) == got


def test_who_wishes_no_limit_on_money_gets_the_hubs():
    assert capped_limits(Limits(money=None), {"money": 7}).money == 7
