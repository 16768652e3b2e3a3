"""The filter, run by a BPF machine of a few lines: what it answers to any call with any arguments."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import SandboxUnavailable
from agents.sandboxes.parts import seccomp
from agents.sandboxes.parts.seccomp import ABSENT, ALLOW, AUDIT_ARCH_X86_64, FORBID, KILL_PROCESS, bpf

PROGRAM = [struct.unpack_from("=HBBI", bpf("x86_64"), at) for at in range(0, len(bpf("x86_64")), 8)]
NAMED = {**seccomp.FORBIDDEN, **seccomp.MISSING}
WORDS = st.integers(0, 2**64 - 1)
ARGUMENTS = st.lists(WORDS, min_size=6, max_size=6)


def answer(number: int, arguments: list[int], architecture: int = AUDIT_ARCH_X86_64) -> int:
    """Run the filter over `struct seccomp_data`."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments)
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = PROGRAM[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case 0x06:
                return operand
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x35:
                at += if_true if accumulator >= operand else if_false
            case 0x45:
                at += if_true if accumulator & operand else if_false
            case _:
                pytest.fail(f"unknown instruction {code:#x}")


@given(st.sampled_from(sorted(seccomp.FORBIDDEN.values())), ARGUMENTS)
def test_a_forbidden_call_is_refused_whatever_its_arguments(number: int, arguments: list[int]) -> None:
    assert answer(number, arguments) == FORBID


@given(st.sampled_from(sorted(seccomp.MISSING.values())), ARGUMENTS)
def test_a_missing_call_is_not_there_whatever_its_arguments(number: int, arguments: list[int]) -> None:
    assert answer(number, arguments) == ABSENT


@given(st.integers(0, seccomp.NEWEST), ARGUMENTS)
def test_what_is_not_named_is_allowed(number: int, arguments: list[int]) -> None:
    if number not in {*NAMED.values(), seccomp.CLONE, seccomp.IOCTL}:
        assert answer(number, arguments) == ALLOW


@given(st.integers(seccomp.NEWEST + 1, seccomp.X32_BIT - 1), ARGUMENTS)
def test_calls_newer_than_the_table_are_not_there(number: int, arguments: list[int]) -> None:
    assert answer(number, arguments) == ABSENT


@given(st.integers(seccomp.X32_BIT, 2**32 - 1), ARGUMENTS)
def test_x32_numbers_end_the_process(number: int, arguments: list[int]) -> None:
    assert answer(number, arguments) == KILL_PROCESS


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), ARGUMENTS)
def test_another_architecture_ends_the_process(number: int, architecture: int, arguments: list[int]) -> None:
    if architecture != AUDIT_ARCH_X86_64:
        assert answer(number, arguments, architecture) == KILL_PROCESS


@given(WORDS, ARGUMENTS)
def test_a_clone_is_refused_exactly_where_it_asks_for_a_namespace(flags: int, rest: list[int]) -> None:
    asks = any(flags & 1 << bit for bit in (7, 17, 25, 26, 27, 28, 29, 30))
    assert answer(seccomp.CLONE, [flags, *rest[1:]]) == (FORBID if asks else ALLOW)


def test_threads_and_forks_are_allowed() -> None:
    thread, fork = 0x3D0F00, 0x1200011  # as glibc makes them
    assert answer(seccomp.CLONE, [thread, 0, 0, 0, 0, 0]) == ALLOW
    assert answer(seccomp.CLONE, [fork, 0, 0, 0, 0, 0]) == ALLOW


@given(st.one_of(st.sampled_from([0x5412, 0x541C, 0x5401, 0xDEAD << 32 | 0x5412]), WORDS), ARGUMENTS)
def test_typing_into_a_terminal_is_refused_also_with_bits_the_kernel_ignores(request: int, rest: list[int]) -> None:
    types = request & 0xFFFFFFFF in {0x5412, 0x541C}
    assert answer(seccomp.IOCTL, [rest[0], request, *rest[2:]]) == (FORBID if types else ALLOW)


def test_no_number_is_named_twice_and_none_is_beyond_the_table() -> None:
    assert len(set(NAMED.values())) == len(seccomp.FORBIDDEN) + len(seccomp.MISSING)
    assert max(NAMED.values()) <= seccomp.NEWEST


def test_the_filter_is_short_enough_for_the_kernel_and_never_runs_off_its_end() -> None:
    assert len(PROGRAM) <= 4096
    for at, (code, if_true, if_false, _) in enumerate(PROGRAM):
        jumps = code & 0x07 == 0x05
        assert not jumps or at + 1 + max(if_true, if_false) < len(PROGRAM)
    assert PROGRAM[-1][0] == 0x06


@pytest.mark.parametrize("machine", ["aarch64", "riscv64", "i686", ""])
def test_a_machine_without_a_table_is_refused(machine: str) -> None:
    with pytest.raises(SandboxUnavailable, match="table of system calls"):
        bpf(machine)
