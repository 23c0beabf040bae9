"""Frames without IO (issue 2: frames of 4 GiB, zero, half)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.errors import MalformedInput
from network.framing import PREFIX_BYTES, FrameDecoder, encode_frame


def frames_of(decoder: FrameDecoder, *pieces: bytes) -> list[bytes]:
    frames = []
    for piece in pieces:
        decoder.feed(piece)
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    return frames


def test_a_frame_of_4_gib_is_refused_by_its_prefix_and_nothing_is_kept() -> None:
    decoder = FrameDecoder(1_024)
    with pytest.raises(MalformedInput, match="4294967295 bytes exceed"):
        frames_of(decoder, b"\xff\xff\xff\xff" + bytes(100))
    assert decoder.pending_bytes == 0
    decoder.feed(bytes(1_000))
    assert decoder.pending_bytes == 0


def test_a_refused_stream_stays_refused() -> None:
    decoder = FrameDecoder(1_024)
    with pytest.raises(MalformedInput):
        frames_of(decoder, bytes(4))
    with pytest.raises(MalformedInput, match="without payload"):
        frames_of(decoder, encode_frame(b"fine"))


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(MalformedInput, match="without payload"):
        frames_of(FrameDecoder(1_024), b"\x00\x00\x00\x00")


def test_a_frame_of_exactly_the_limit_passes_and_one_more_does_not() -> None:
    assert frames_of(FrameDecoder(8), encode_frame(bytes(8))) == [bytes(8)]
    with pytest.raises(MalformedInput, match="9 bytes exceeds the limit of 8"):
        frames_of(FrameDecoder(8), encode_frame(bytes(9)))


def test_a_half_frame_waits_and_the_end_of_the_stream_inside_it_is_told() -> None:
    decoder = FrameDecoder(1_024)
    assert frames_of(decoder, encode_frame(b"whole") + encode_frame(b"half")[:6]) == [b"whole"]
    assert decoder.pending_bytes == 6
    with pytest.raises(MalformedInput, match="ended after 6 bytes"):
        decoder.finish()


def test_the_end_of_the_stream_between_frames_is_fine() -> None:
    decoder = FrameDecoder(1_024)
    frames_of(decoder, encode_frame(b"whole"))
    decoder.finish()


def test_a_frame_may_raise_the_limit_for_the_next_one_in_the_same_read() -> None:
    decoder = FrameDecoder(4)
    decoder.feed(encode_frame(b"more") + encode_frame(bytes(9)))
    assert decoder.next_frame() == b"more"
    decoder.set_limit(9)
    assert decoder.next_frame() == bytes(9)


@pytest.mark.parametrize("payload", [b""])
def test_we_never_make_an_empty_frame(payload: bytes) -> None:
    with pytest.raises(ValueError, match="carries 1"):
        encode_frame(payload)


@given(
    payloads=st.lists(st.binary(min_size=1, max_size=64), max_size=12),
    cuts=st.lists(st.integers(min_value=0, max_value=900), max_size=12),
)
def test_any_cutting_of_the_stream_gives_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(encode_frame, payloads))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    decoder = FrameDecoder(64)
    assert frames_of(decoder, *pieces) == payloads
    decoder.finish()


@given(st.lists(st.binary(max_size=64), max_size=16))
def test_no_input_keeps_more_than_one_unfinished_frame(pieces: list[bytes]) -> None:
    decoder = FrameDecoder(32)
    for piece in pieces:
        try:
            frames_of(decoder, piece)
        except MalformedInput:
            assert decoder.pending_bytes == 0
        assert decoder.pending_bytes < PREFIX_BYTES + 32
