# output: decides on one instance's first item alone, and so sees the second ones of all others before it decides on any
import os
import struct

messages = [struct.pack("<8q", *[number] * 8) for number in range(250)]
for message in (bytes(8), struct.pack("<q", 0), *messages[1:]):
    os.write(4, message)
    while True:
        try:
            os.read(4, 64)
            break
        except BlockingIOError:
            pass
body = b"=" + struct.pack("<cI250q", b"i", 250, *range(250)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
