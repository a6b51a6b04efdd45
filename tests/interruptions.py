"""Work that is interrupted, and what damage that leaves."""

import os
import signal
import subprocess
import threading
import time

import pytest

from xcorr.core import XcorrError


def interrupt(work, element, count):
    """Do work in which an element fails after so many items."""
    real, done = element.process, []

    def process(self, inputs):
        if len(done) == count:
            raise OSError("the machine stopped")
        done.append(1)
        real(self, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(element, "process", process)
        with pytest.raises(XcorrError, match="the machine stopped"):
            work()


def cut_and_alter(first, second):
    """Cut the end off a file, and alter a bit of another."""
    first.write_bytes(first.read_bytes()[:-200])
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(bytes(data))


def killed_and_repeated(command, waits_s):
    """Kill a command after each of these times, then let it end."""
    for wait_s in waits_s:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait_s)
        process.kill()  # its workers notice, and end
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def killed_in_the_middle(folder, shards, victim, run):
    """Run a campaign, and kill the process ``victim()`` once it has shards, of ``shards``; return what was run.

    Also returns how many shards there were.
    """
    killed = []

    def there():
        return len(list((folder / "shards").glob("*.h5")))

    def kill():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not there():
            time.sleep(0.02)
        os.kill(victim(), signal.SIGKILL)
        killed.append(there())

    thread = threading.Thread(target=kill)
    thread.start()
    finished = run()
    thread.join()
    assert 0 < killed[0] < shards, "the kill came in the middle"
    return finished, killed[0]
