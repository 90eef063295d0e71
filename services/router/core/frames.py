"""How chunks of HTTP/1.1 stand on the wire, told without a parser."""

CHUNK_HEAD = 6
"""Where the head of a chunk has ended, unless the chunk is longer than 64 KiB."""
SHORT = 2048
"""A shorter piece that is one chunk is known by its length."""
_NONE = b"\0"
"""No chunk begins so."""


def _head(size: int) -> bytes:
    for digits in range(1, 5):
        length = size - digits - 4
        head = b"%x\r\n" % max(length, 0)
        if length > 0 and len(head) == digits + 2:
            return head
    return _NONE


HEADS = tuple(map(_head, range(SHORT)))
"""How a piece begins that is one chunk and nothing else, by its length.

With the fewest and lower-case digits, as nearly every server writes them: another form is only not
known by its length.
"""


def is_one(data: bytes, begin: int, end: int) -> bool:
    """Tell whether ``data[begin:end]`` is one chunk, by its head and its length."""
    size = end - begin
    return data.startswith(HEADS[size] if 0 <= size < SHORT else _head(size), begin)


def are_whole(data: bytes) -> bool:
    """Tell whether ``data``, which begins where a chunk does, is chunks with something in them."""
    at, size = 0, len(data)
    while at < size:
        end = data.find(b"\r\n", at, at + CHUNK_HEAD)
        try:
            length = int(data[at : max(end, at)], 16)
        except ValueError:
            return False
        if length <= 0:
            return False
        at = end + length + 4
    return at == size
