"""Temporary directories which do not outlive the process that made them."""

import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")


class PrivateDirectory:
    """A temporary directory; servers that leave `NAME.pid` files at its top are stopped before it is removed.

    A guard process does both as soon as `close` is called or this process is gone, however it ended, so that neither
    a `kill -9` nor a time limit leaves a server behind.
    """

    def __init__(self, prefix: str, *, owner: str | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"flexmeter-{prefix}-"))
        self.guard = subprocess.Popen([sys.executable, str(GUARD), str(self.path)], stdin=subprocess.PIPE, start_new_session=True)
        if owner:
            shutil.chown(self.path, owner, pwd.getpwnam(owner).pw_gid)

    def close(self) -> None:
        assert self.guard.stdin
        self.guard.stdin.close()
        self.guard.wait()
