"""What a packet says about its image: of any bytes, a fact or that it cannot be told."""
import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.video.bitstream import PacketFacts, Unpredictable, packet_reader
from tests.helpers.clips import clip

CODECS = {"h264": ("v.mp4", "libx264"), "hevc": ("v.mp4", "libx265"), "vp8": ("v.webm", "libvpx"),
          "vp9": ("v.webm", "libvpx-vp9"), "av1": ("v.webm", "libsvtav1")}


@pytest.fixture(scope="module")
def packets(tmp_path_factory):
    """Of each codec, the extra data and the first packets of a real video."""
    found = {}
    for codec, (name, encoder) in CODECS.items():
        path = clip(tmp_path_factory.mktemp(codec) / name, 8, codec=encoder)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            content = [bytes(packet) for packet in container.demux(stream) if packet.size]
            found[codec] = bytes(stream.codec_context.extradata or b""), content
    return found


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_packets_end_in_no_other_error(codec, packets, data):
    extradata, content = packets[codec]
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    damaged = []
    for whole in (extradata, *content):
        part = bytearray(whole[:int(rng.integers(len(whole) + 1)) if rng.random() < 0.3 else None])
        for place in rng.integers(0, min(len(part), 60), rng.integers(0, 4)) if part else ():
            part[place] = rng.integers(256)
        damaged.append(bytes(part))
    try:
        facts_of = packet_reader(codec, damaged[0])
        for number, packet in enumerate(filter(None, damaged[1:])):
            facts = facts_of(packet, number == 0)
            assert isinstance(facts, PacketFacts) and abs(facts.order) < 1 << 62
    except Unpredictable:
        pass


def test_whole_packets_tell_all(packets):
    for codec, (extradata, content) in packets.items():
        facts_of = packet_reader(codec, extradata)
        facts = [facts_of(packet, number == 0) for number, packet in enumerate(content)]
        assert facts[0].starts and not any(fact.starts for fact in facts[1:])
        assert len({fact.order for fact in facts}) == len(content)
    with pytest.raises(Unpredictable):
        packet_reader("mpeg4", b"")
