from hypothesis import given
from hypothesis import strategies as st

from agents.sandboxes.parts.capped_output import FLOOD, CappedOutput


@given(st.lists(st.binary(max_size=40)), st.integers(1, 60))
def test_the_two_ends_are_kept_and_the_rest_is_counted(pieces: list[bytes], limit: int) -> None:
    output, whole = CappedOutput(limit), b"".join(pieces)
    for piece in pieces:
        output.add(piece)
    text, cut = output.result()
    assert cut == max(0, len(whole) - limit)
    head, tail = limit - limit // 2, limit // 2
    if cut:
        begin, end = whole[:head].decode(errors="replace"), whole[len(whole) - tail :].decode(errors="replace")
        assert text == f"{begin}\n[{cut} bytes cut]\n{end}"
    else:
        assert text == whole.decode(errors="replace")
    assert output.flooded == (len(whole) > FLOOD * limit)


def test_endless_output_takes_no_more_memory_than_its_bound() -> None:
    output = CappedOutput(1000)
    for _ in range(10_000):
        output.add(b"x" * 100)
    assert sum(map(len, output._tail)) + len(output._head) < 1200
