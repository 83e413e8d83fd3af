# infeasible: bins that a list would count from its end
import os
import struct

for number in range(251):
    os.write(4, struct.pack("<8q", *[-1 - number] * 8))
    while True:
        try:
            os.read(4, 64)
            break
        except BlockingIOError:
            pass
body = b"=" + struct.pack("<cI250q", b"i", 250, *range(250)) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
