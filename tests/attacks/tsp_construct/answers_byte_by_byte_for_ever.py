# timeout: announces 16 MB and hands out single bytes, so that there is always something to read
import os
import struct

os.write(3, struct.pack("<Q", 16_000_000))
while True:
    os.write(3, b"=")
    for _ in range(1000):
        pass
