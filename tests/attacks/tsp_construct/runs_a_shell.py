# forbidden: runs a shell that stays behind
# needs: seccomp
import subprocess


def select_next_node(c, d, u, m):
    subprocess.Popen(["/bin/sh", "-c", "sleep 60 &"], close_fds=False)
    return u[0]
