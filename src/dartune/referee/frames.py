"""Messages on pipes and sockets, each after its length."""

import os
import struct

FRAME = struct.Struct("<Q")  # the length


def read_frame(descriptor: int) -> bytes | None:
    """Return the next length-prefixed message; None where the stream ends before or inside it."""
    head = bytearray(FRAME.size)
    if not read_into(descriptor, memoryview(head)):
        return None
    body = bytearray(FRAME.unpack(head)[0])
    return bytes(body) if read_into(descriptor, memoryview(body)) else None


def read_into(descriptor: int, space: memoryview) -> bool:
    """Fill the space and read nothing beyond it. Return False where the stream ends first."""
    while space:
        n_bytes = os.readv(descriptor, [space])
        if not n_bytes:
            return False
        space = space[n_bytes:]
    return True


def write_all(descriptor: int, body: bytes | memoryview) -> None:
    """Write all bytes, in as many system calls as that takes."""
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_frame(descriptor: int, body: bytes) -> None:
    """Write a message that read_frame can read."""
    write_all(descriptor, FRAME.pack(len(body)) + body)
