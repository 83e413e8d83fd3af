# infeasible: tours whose cities are right only as 16-bit integers
import os
import struct

body = b"=" + (struct.pack("<cI", b"i", 50) + struct.pack("<50q", 0, *(65536 + i for i in range(1, 50)))) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
