# output, runtime: a reason with half of a character, which no file can hold
import os
import struct

body = b'!{"status": "runtime", "reason": "\\ud800"}'
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
