"""The rules about addresses, without any network."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from agents.errors import ToolRefused
from agents.web.addresses import HostPattern, Reach, embedded_ipv4, host_of, is_public, page_url
from bus.setup import Permissions

SPECIAL_V4 = str.split("""
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1
198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
""")
PUBLIC_V4 = str.split("""
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 172.15.255.255 172.32.0.0
192.0.1.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
""")
SPECIAL_V6 = str.split("""
:: ::1 ::2 fe80::1 fec0::1 fc00::1 fd00::1 fd00:ec2::254 ff02::1 ff0e::1 100::1 64:ff9b:1::808:808 2001::1
2001:0:808:808::f7f7:f7f7 2001:20::1 2001:db8::1 3fff::1 4000::1 5f00::1 fe80::1%eth0 2606:4700::1%1
""")
NUMBERS = str.split("""
127.1 127.0.1 0 2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 017700000001 127.000.000.001 127.0.0.1. 1.2.3.4.5 0x
""")
PUBLIC_V6 = ["2606:4700::1111", "2a00:1450:4001::8", "2001:4860:4860::8888", "2003::1", "2400:cb00::1"]


def wrapped(address: IPv4Address) -> list[IPv6Address]:
    number = int(address)
    return [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(number),
        IPv6Address((0x64_FF9B << 96) | number),
        IPv6Address((0x2002 << 112) | number << 80),
    ]


@pytest.mark.parametrize("text", SPECIAL_V4 + SPECIAL_V6)
def test_a_special_address_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC_V4 + PUBLIC_V6)
def test_an_ordinary_address_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_ipv4_inside_ipv6_is_judged_as_ipv4(address: IPv4Address) -> None:
    for outer in wrapped(address):
        assert embedded_ipv4(outer) == address
        assert is_public(outer) == is_public(address)


@given(st.ip_addresses())
def test_nothing_is_public_that_python_calls_special(address: IPv4Address | IPv6Address) -> None:
    inner = embedded_ipv4(address) if isinstance(address, IPv6Address) else None
    judged = inner or address
    if is_public(address):
        assert judged.is_global
        assert not any((judged.is_multicast, judged.is_reserved, judged.is_loopback, judged.is_link_local))


@pytest.mark.parametrize(
    "text",
    [
        "http://a@127.0.0.1/",
        "http://user:word@www.example.com/",
        "http://www.example.com\\@127.0.0.1/",
        "http:\\\\127.0.0.1/",
        "file:///etc/passwd",
        "ftp://www.example.com/x",
        "gopher://www.example.com:70/_x",
        "data:text/html,<p>x",
        "unix:/run/x.sock",
        "javascript:alert(1)",
        "//www.example.com/x",
        "http:www.example.com",
        "http:///x",
        "http://",
        "http://:80/",
        "",
        "www.example.com",
        "http://www.example.com:99999/",
        "http://www.example.com:0/",
        "http://[::1",
        "http://[::1%25lo]/",
        "http://[fe80::1%eth0]/",
        "http://ex%61mple.com/",
        "http://127.0.0.1%0d%0aX:y/",
        "http://a..b/",
        "http://-x.com/",
        f"http://{'x' * 64}.com/",
        "http://www.example.com/\r\nX: y",
        "http://www.example.com/a b",
        "http://www.example.com/\x00",
        "http://www.example.com/\u2028",
        "http://www.example.com/\ud800",
        "http://www.example.com/" + "x" * 8_000,
    ],
)
def test_what_is_not_plainly_a_web_address_is_refused(text: str) -> None:
    with pytest.raises(ToolRefused):
        page_url(text)


@pytest.mark.parametrize(
    "host",
    NUMBERS,
)
def test_a_number_is_a_host_only_in_its_plain_form(host: str) -> None:
    with pytest.raises(ToolRefused, match="no usable host"):
        page_url(f"http://{host}/")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://①②⑦.0.0.1/", "127.0.0.1"),
        ("http://127。0。0。1/", "127.0.0.1"),
        ("http://LOCALHOST./", "localhost"),
        ("http://[::ffff:127.0.0.1]/", str(IPv6Address("::ffff:127.0.0.1"))),
        ("http://[0:0::0:1]/", "::1"),
        ("https://Bücher.Example/x#part", "xn--bcher-kva.example"),
        ("https://good.example#@127.0.0.1/", "good.example"),
    ],
)
def test_a_host_is_compared_in_one_form(text: str, host: str) -> None:
    url = page_url(text)
    assert host_of(url) == host
    assert not url.fragment


def test_a_relative_address_is_read_from_its_base() -> None:
    base = page_url("https://www.example.com/a/b?q=1")
    assert page_url("../c#d", base) == URL("https://www.example.com/c")
    assert page_url("//other.example/x", base) == URL("https://other.example/x")
    with pytest.raises(ToolRefused):
        page_url("file:///etc/passwd", base)


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://www.example.com/", "http://www.example.com:"]))
def test_any_text_is_an_address_or_refused(text: str, before: str) -> None:
    try:
        url = page_url(before + text)
    except ToolRefused:
        return
    assert url.scheme in {"http", "https"}
    assert host_of(url)
    assert url.raw_user is None


@pytest.mark.parametrize(
    ("entry", "host", "port", "expected"),
    [
        ("example.com", "example.com", 443, True),
        ("example.com", "example.com", 80, True),
        ("example.com", "example.com", 8080, False),
        ("example.com", "www.example.com", 443, False),
        ("example.com:8080", "example.com", 8080, True),
        ("example.com:8080", "example.com", 443, False),
        ("example.com:80", "example.com", 80, True),
        ("*.example.com", "www.example.com", 443, True),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "badexample.com", 443, False),
        ("*.example.com:8443", "www.example.com", 8443, True),
        ("*.example.com:8443", "www.example.com", 443, False),
        ("EXAMPLE.com.", "example.com", 443, True),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
        ("[2606:4700:0::1]:8080", "2606:4700::1", 8080, True),
    ],
)
def test_a_host_pattern_means_what_it_says(entry: str, host: str, port: int, *, expected: bool) -> None:
    assert HostPattern.parse(entry).matches(host, port) is expected


@pytest.mark.parametrize(
    "entry", ["", "*", "*.", "http://x.com", "x.com/path", "a@x.com", "x.com:99999", "x..com", "127.1"]
)
def test_a_permission_that_is_no_host_is_refused_with_its_text(entry: str) -> None:
    with pytest.raises(ToolRefused, match="is not a host or host:port"):
        Reach.of(Permissions(fetch=(entry,)))


def admit(permissions: Permissions, text: str) -> bool:
    return Reach.of(permissions).admit(page_url(text))


def test_public_means_the_ports_of_the_web() -> None:
    assert admit(Permissions(), "http://www.example.com/")
    assert admit(Permissions(), "https://www.example.com/")
    with pytest.raises(ToolRefused, match="ports 80 and 443"):
        admit(Permissions(), "http://www.example.com:22/")


def test_none_means_none_even_for_private_hosts() -> None:
    with pytest.raises(ToolRefused, match="fetch: none"):
        admit(Permissions(fetch="none", private_hosts=("127.0.0.1:8080",)), "http://127.0.0.1:8080/")


def test_a_list_of_hosts_grants_these_and_the_private_ones_as_written() -> None:
    permissions = Permissions(fetch=("*.example.com",), private_hosts=("127.0.0.1:8080",))
    assert admit(permissions, "https://www.example.com/")
    assert not admit(permissions, "http://127.0.0.1:8080/")
    for other in ("https://example.com/", "https://example.org/", "http://127.0.0.1:8081/", "http://localhost:8080/"):
        with pytest.raises(ToolRefused, match="not among the hosts"):
            admit(permissions, other)


def test_a_private_pair_is_its_address_and_its_port() -> None:
    reach = Reach.of(Permissions(private_hosts=("127.0.0.1:8080", "wiki.test:80", "10.0.0.1", "*.test:80")))
    assert reach.private == {("127.0.0.1", 8080), ("wiki.test", 80)}
    assert reach.permits("127.0.0.1", 8080, public=False)
    assert not reach.permits("127.0.0.1", 8081, public=True)
    assert not reach.permits("127.0.0.2", 8080, public=True)
    assert not reach.permits("::ffff:127.0.0.1", 8080, public=True)
    assert not reach.permits("10.0.0.1", 80, public=True)


def test_a_public_address_on_a_private_hosts_port_is_still_not_granted() -> None:
    reach = Reach.of(Permissions(private_hosts=("127.0.0.1:8080",)))
    public = reach.admit(page_url("http://www.example.com:8080/"))
    assert not reach.permits("8.8.8.8", 8080, public=public)


def test_the_addresses_of_a_private_name_are_granted_only_to_it() -> None:
    reach = Reach.of(Permissions(private_hosts=("wiki.test:80",)))
    assert reach.permits("10.0.0.5", 80, public=True, pinned=frozenset({"10.0.0.5"}))
    assert not reach.permits("10.0.0.6", 80, public=True, pinned=frozenset({"10.0.0.5"}))
    assert not reach.permits("10.0.0.5", 80, public=True)


def test_what_is_no_address_is_never_connected_to() -> None:
    assert not Reach.of(Permissions()).permits("www.example.com", 443, public=True)
