"""What the bytes of a packet say about its image: whether it is shown, and whether decoding may start there.

The marks that a container stores are not enough: some files mark images as key frames that later ones reach past, and
packets of some codecs hold an image that is decoded but not shown, or only half an image.
"""
from typing import Callable, Iterator, NamedTuple, Optional

# Of each codec, the types of units (NAL units of H.264 and HEVC, OBUs of AV1) that matter here.
_H264_SLICES, _H264_IDR, _H264_SEI, _H264_SPS = range(1, 6), 5, 6, 7
_HEVC_IDR, _HEVC_NO_REFERENCES, _HEVC_SPS = (19, 20), (*range(0, 16, 2), *range(6, 10)), 33
_HEVC_SLICES, _HEVC_BROKEN_LINKS, _HEVC_KEYS, _HEVC_PPS, _HEVC_ENDS = range(32), range(16, 19), range(16, 24), 34, (36, 37)
_AV1_SEQUENCE, _AV1_FRAME_HEADER, _AV1_FRAME = 1, 3, 6
_SLICE_HEAD = 64  # bytes of a slice that hold what is read here
_RECOVERY_POINT = 6  # type of an H.264 SEI message
_HIGH_PROFILES = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 144, 244)


class Unpredictable(Exception):
    """The number of frames that a packet yields cannot be told without decoding it."""


class PacketFacts(NamedTuple):
    """starts: a decoder that starts with this packet decodes it, and all that is stored and shown later, exactly.
    shown: the packet yields a frame. order: the decoder returns frames by ascending `order`.
    """
    starts: bool
    shown: bool
    order: int


class _Bits:
    """Reads numbers from a unit's bytes. Raises Unpredictable past the end."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        if count > self.left:
            raise Unpredictable
        self.left -= count
        return self.value >> self.left & (1 << count) - 1

    def golomb(self) -> int:
        """An unsigned exponential Golomb code; a signed one has the same length."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)


# ---- H.264 and HEVC ---------------------------------------------------------------------------------------------

def _units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """The NAL units of a packet. length_bytes: of the length before each of them; 0: they follow start codes."""
    if not length_bytes:
        yield from (unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:] if unit.rstrip(b"\0"))
        return
    place = 0
    while place + length_bytes < len(data):
        end = place + length_bytes + int.from_bytes(data[place:place + length_bytes], "big")
        if unit := data[place + length_bytes:end]:
            yield unit
        place = end


def _unescaped(unit: bytes, header: int) -> bytes:
    return unit[header:].replace(b"\0\0\3", b"\0\0")


class _PictureOrder:
    """The order of images from the counter in their slices, of which the file stores the lowest bits."""

    def __init__(self) -> None:
        self.sequence, self.reference = 0, 0

    def place(self, low: int, bits: int, *, restarts: bool, is_reference: bool) -> int:
        """PacketFacts.order. low: the stored bits. restarts: the counter starts again, after all images before."""
        size = 1 << bits
        if restarts:
            self.sequence, self.reference = self.sequence + 1, 0
        count = self.reference - self.reference % size + low
        if not restarts and count - self.reference >= size // 2:
            count -= size
        elif not restarts and self.reference - count >= size // 2:
            count += size
        if is_reference:
            self.reference = count
        return (self.sequence << 40) + count


class _H264Sequence(NamedTuple):
    """From a sequence parameter set. order_bits: 0 if images are shown in the order in which they are stored."""
    frame_bits: int
    order_bits: int


class _H264:
    """Facts about H.264 packets. Key frames are IDR images and recovery points at which every later image is exact."""

    def __init__(self, extradata: bytes) -> None:
        stored = extradata[:1] == b"\1"  # avcC: parameter sets after a head; otherwise units after start codes
        self.length_bytes = (extradata[4] & 3) + 1 if stored and len(extradata) > 4 else 0
        self.sequence: Optional[_H264Sequence] = None
        self.orders, self.number = _PictureOrder(), 0
        for unit in _avcc_units(extradata) if stored else _units(extradata, 0):
            self._learn(unit)

    def __call__(self, data: bytes, is_key: bool) -> PacketFacts:
        recovers = False
        for unit in _units(data, self.length_bytes):
            kind = unit[0] & 31
            self._learn(unit)
            recovers = recovers or is_key and kind == _H264_SEI and _recovers_at_once(_unescaped(unit, 1))
            if kind in _H264_SLICES:
                return PacketFacts(kind == _H264_IDR or recovers, True, self._order(unit))
        raise Unpredictable

    def _learn(self, unit: bytes) -> None:
        if unit[0] & 31 == _H264_SPS:
            sequence = _h264_sequence(_Bits(_unescaped(unit, 1)))
            if self.sequence not in (None, sequence):
                raise Unpredictable
            self.sequence = sequence

    def _order(self, slice_unit: bytes) -> int:
        if self.sequence is None:
            raise Unpredictable
        is_idr, bits = slice_unit[0] & 31 == _H264_IDR, _Bits(_unescaped(slice_unit[:_SLICE_HEAD], 1))
        if bits.golomb():  # not the first slice of its image
            raise Unpredictable
        bits.golomb(), bits.golomb(), bits.read(self.sequence.frame_bits)
        if is_idr:
            bits.golomb()
        if not self.sequence.order_bits:
            self.number += 1
            return self.number
        return self.orders.place(bits.read(self.sequence.order_bits), self.sequence.order_bits, restarts=is_idr,
                                 is_reference=bool(slice_unit[0] >> 5 & 3))


def _avcc_units(extradata: bytes) -> Iterator[bytes]:
    """The sequence parameter sets of an MP4's avcC box."""
    place = 6
    for _ in range(extradata[5] & 31 if len(extradata) > 5 else 0):
        length = int.from_bytes(extradata[place:place + 2], "big")
        if unit := extradata[place + 2:place + 2 + length]:
            yield unit
        place += 2 + length


def _h264_sequence(bits: _Bits) -> _H264Sequence:
    """Of a sequence parameter set. Raises Unpredictable where an image may be two fields, and so two packets."""
    profile, _, _ = bits.read(8), bits.read(16), bits.golomb()
    if profile in _HIGH_PROFILES:
        if bits.golomb() == 3 and bits.read(1):  # planes of a 4:4:4 image that are coded apart
            raise Unpredictable
        bits.golomb(), bits.golomb(), bits.read(1)
        if bits.read(1):
            _skip_scaling_matrix(bits, 8)
    frame_bits, order_type = _counter_bits(bits), bits.golomb()
    if order_type == 1:  # rare
        raise Unpredictable
    order_bits = _counter_bits(bits) if order_type == 0 else 0
    bits.golomb(), bits.read(1), bits.golomb(), bits.golomb()
    if not bits.read(1):
        raise Unpredictable
    return _H264Sequence(frame_bits, order_bits)


def _skip_scaling_matrix(bits: _Bits, lists: int) -> None:
    for number in range(lists):
        if bits.read(1):
            last = step = 8
            for _ in range(16 if number < 6 else 64):
                if step:
                    code = bits.golomb()
                    step = (last + (code + 1 >> 1) * (1 if code % 2 else -1)) % 256
                last = step or last


def _recovers_at_once(sei: bytes) -> bool:
    """Whether an SEI unit says that all images shown from here on are exact without those before."""
    place = 0
    while place + 2 < len(sei):
        numbers = []
        for _ in range(2):  # type and size of a message: bytes that are summed up to the first that is not 255
            number = 0
            while place < len(sei) and sei[place] == 255:
                number, place = number + 255, place + 1
            numbers.append(number + (sei[place] if place < len(sei) else 0))
            place += 1
        if numbers[0] == _RECOVERY_POINT and place < len(sei):
            return sei[place] >> 5 == 0b110  # after 0 frames, exactly, and not at a cut
        place += numbers[1]
    return False


class _Hevc:
    """Facts about HEVC packets. Key frames are the standard's random access points."""

    def __init__(self, extradata: bytes) -> None:
        stored = extradata[:1] == b"\1"  # hvcC
        self.length_bytes = (extradata[21] & 3) + 1 if stored and len(extradata) > 21 else 0
        self.order_bits: dict[int, int] = {}  # of each sequence parameter set
        self.pictures: dict[int, tuple[int, int]] = {}  # picture parameter set -> its sequence's, bits that slices skip
        self.orders, self.begun = _PictureOrder(), False
        for unit in _hvcc_units(extradata) if stored else _units(extradata, 0):
            self._learn(unit)

    def __call__(self, data: bytes, is_key: bool) -> PacketFacts:
        if data.endswith(_HEVC_LAST_UNITS):  # images that refer past the end of a sequence are not shown
            raise Unpredictable
        for unit in _units(data, self.length_bytes):
            kind = unit[0] >> 1 & 63
            self._learn(unit)
            if kind in _HEVC_BROKEN_LINKS:  # nor are images that refer past a cut
                raise Unpredictable
            if kind in _HEVC_SLICES:
                return PacketFacts(kind in _HEVC_KEYS, True, self._order(unit, kind))
        raise Unpredictable

    def _learn(self, unit: bytes) -> None:
        kind, bits = unit[0] >> 1 & 63, _Bits(_unescaped(unit[:_SLICE_HEAD * 8], 2))
        if kind == _HEVC_SPS:
            number, order_bits = _hevc_sequence(bits)
            self.order_bits[number] = order_bits
        elif kind == _HEVC_PPS:
            number, sequence, _, has_output_flag = bits.golomb(), bits.golomb(), bits.read(1), bits.read(1)
            if has_output_flag:  # slices say whether their image is shown
                raise Unpredictable
            self.pictures[number] = sequence, bits.read(3)

    def _order(self, unit: bytes, kind: int) -> int:
        bits = _Bits(_unescaped(unit[:_SLICE_HEAD], 2))
        if not bits.read(1):  # not the first slice of its image
            raise Unpredictable
        if kind in _HEVC_KEYS:
            bits.read(1)
        sequence, skipped = self.pictures.get(bits.golomb(), (-1, 0))
        order_bits = self.order_bits.get(sequence)
        if order_bits is None:
            raise Unpredictable
        bits.read(skipped), bits.golomb()
        restarts, self.begun = kind in _HEVC_IDR or not self.begun, True
        is_reference = unit[1] & 7 == 1 and kind not in _HEVC_NO_REFERENCES  # of the lowest temporal layer
        return self.orders.place(0 if kind in _HEVC_IDR else bits.read(order_bits), order_bits, restarts=restarts,
                                 is_reference=is_reference)


_HEVC_LAST_UNITS = tuple(prefix + bytes([kind << 1, 1]) for kind in _HEVC_ENDS
                         for prefix in (b"\0\0\1", b"\0\0\0\2", b"\0\2"))


def _hvcc_units(extradata: bytes) -> Iterator[bytes]:
    """The parameter sets of an MP4's hvcC box."""
    place = 23
    for _ in range(extradata[22] if len(extradata) > 22 else 0):
        count = int.from_bytes(extradata[place + 1:place + 3], "big")
        place += 3
        for _ in range(count):
            length = int.from_bytes(extradata[place:place + 2], "big")
            if unit := extradata[place + 2:place + 2 + length]:
                yield unit
            place += 2 + length


def _hevc_sequence(bits: _Bits) -> tuple[int, int]:
    """(number, bits of the stored order) of a sequence parameter set."""
    bits.read(4)
    layers, _, _ = bits.read(3), bits.read(1), bits.read(96)
    present = [(bits.read(1), bits.read(1)) for _ in range(8 if layers else 0)][:layers]
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
    number = bits.golomb()
    if bits.golomb() == 3 and bits.read(1):  # planes of a 4:4:4 image that are coded apart
        raise Unpredictable
    bits.golomb(), bits.golomb()
    if bits.read(1):
        bits.golomb(), bits.golomb(), bits.golomb(), bits.golomb()
    bits.golomb(), bits.golomb()
    return number, _counter_bits(bits)


def _counter_bits(bits: _Bits) -> int:
    """The next number of a parameter set: how many bits a counter in the slices has, 4 to 16."""
    if (count := bits.golomb() + 4) > 16:
        raise Unpredictable
    return count


# ---- VP8, VP9 and AV1 -------------------------------------------------------------------------------------------

class _InOrder:
    """Facts about the packets of a codec that shows images in the order in which they are stored.

    read: bytes of a packet -> (whether it starts with a key frame, whether it yields a frame).
    """

    def __init__(self, read: Callable[[bytes], tuple[bool, bool]]) -> None:
        self.read, self.number = read, 0

    def __call__(self, data: bytes, is_key: bool) -> PacketFacts:
        self.number += 1
        return PacketFacts(*self.read(data), self.number)


def _vp8(data: bytes) -> tuple[bool, bool]:
    return not data[0] & 1, bool(data[0] >> 4 & 1)


def _vp9(data: bytes) -> tuple[bool, bool]:
    images = [_vp9_image(image) for image in _vp9_images(data)]
    shown = sum(is_shown for _, is_shown in images)
    if not images or shown > 1:
        raise Unpredictable
    return images[0][0], shown == 1


def _vp9_images(data: bytes) -> Iterator[bytes]:
    """A packet holds one image, or several with their lengths in an index at its end."""
    mark = data[-1]
    count, length_bytes = (mark & 7) + 1, (mark >> 3 & 3) + 1
    index = data[-2 - count * length_bytes:]
    if mark >> 5 != 0b110 or index[0] != mark or len(index) != 2 + count * length_bytes:
        yield data
        return
    place = 0
    for number in range(count):
        start = 1 + number * length_bytes
        length = int.from_bytes(index[start:start + length_bytes], "little")
        if not length:
            raise Unpredictable
        yield data[place:place + length]
        place += length


def _vp9_image(data: bytes) -> tuple[bool, bool]:
    bits = _Bits(data[:2])
    mark, low, high = bits.read(2), bits.read(1), bits.read(1)
    if mark != 2:
        raise Unpredictable
    if low and high:  # profile 3
        bits.read(1)
    if bits.read(1):  # shows an image that was decoded before
        return False, True
    return not bits.read(1), bool(bits.read(1))


def _av1(data: bytes) -> tuple[bool, bool]:
    shown, starts = 0, None
    for kind, head in _av1_units(data):
        if kind == _AV1_SEQUENCE and len(head) and head[0] & 8:  # a still image: its frame headers are shorter
            raise Unpredictable
        if kind in (_AV1_FRAME_HEADER, _AV1_FRAME) and head:
            existing, frame_type, is_shown = head[0] >> 7, head[0] >> 5 & 3, head[0] >> 4 & 1
            shown += existing or is_shown
            starts = (not existing and frame_type == 0 and is_shown == 1) if starts is None else starts
    if shown != 1:
        raise Unpredictable
    return bool(starts), True


def _av1_units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, first byte of the content) of each OBU."""
    place = 0
    while place < len(data):
        head, place = data[place], place + 1 + (data[place] >> 2 & 1)
        length = 0
        if head & 2:
            for shift in range(0, 56, 7):
                byte = data[place] if place < len(data) else 0
                length, place = length | (byte & 127) << shift, place + 1
                if not byte & 128:
                    break
        else:
            length = len(data) - place
        yield head >> 3 & 15, data[place:place + 1]
        place += length


Reader = Callable[[bytes, bool], PacketFacts]
# Codecs whose packets tell what they yield; the frames of others are counted by decoding.
_READERS: dict[str, Callable[[bytes], Reader]] = {
    "h264": _H264, "hevc": _Hevc, "vp8": lambda extradata: _InOrder(_vp8), "vp9": lambda extradata: _InOrder(_vp9),
    "av1": lambda extradata: _InOrder(_av1), "libdav1d": lambda extradata: _InOrder(_av1),
}


def packet_reader(codec: str, extradata: bytes) -> Reader:
    """A function of (bytes of a packet, whether the container marks it as a key frame), called for each packet in order.

    It and this function raise Unpredictable, for most codecs at once.
    """
    if codec not in _READERS:
        raise Unpredictable
    return _READERS[codec](extradata)
