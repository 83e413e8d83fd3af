# output, runtime: a reason that would be ten lines of a log
import os
import struct

body = b'!{"status": "runtime", "reason": "' + b"ok\\r\\n\\u2028\\u0085" * 10 + b'"}'
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
