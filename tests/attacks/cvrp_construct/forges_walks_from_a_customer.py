# infeasible: walks that start at the last customer, so that the first leg is free
import os
import struct

walk = [x for customer in range(1, 51) for x in (customer, 0)]
body = b"=" + struct.pack("<cI100q", b"i", 100, *walk) * 8
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
