"""What happens while the load goes on: reloads, wrong files, rotated logs, a server that stalls."""

import itertools
import signal
import threading

from world import World

PAUSE_SECONDS = 5
STALL_SECONDS = 0.3


class Events(threading.Thread):
    """One event after the other until it is told to stop."""

    def __init__(self, world: World):
        super().__init__(daemon=True)
        self.world = world
        self.stopped = threading.Event()
        self.counts = {}

    def run(self) -> None:
        variants = itertools.cycle([1, 0])
        happenings = itertools.cycle([self.reload, self.rotate, self.wrong, self.reload_at_once, self.stall])
        while not self.stopped.wait(PAUSE_SECONDS):
            happening = next(happenings)
            happening(next(variants))
            name = happening.__name__
            self.counts[name] = self.counts.get(name, 0) + 1
        self.world.configure(0)

    def reload(self, variant: int) -> None:
        self.world.configure(variant)

    def reload_at_once(self, variant: int) -> None:
        self.world.configure(variant)
        self.world.signal(signal.SIGHUP)

    def wrong(self, variant: int) -> None:
        self.world.config.write_text("[defaults]\nretries = 3\n")
        self.world.signal(signal.SIGHUP)
        self.stopped.wait(1)
        self.world.configure(variant)

    def rotate(self, _: int) -> None:
        self.world.access.unlink(missing_ok=True)
        self.world.signal(signal.SIGUSR1)

    def stall(self, _: int) -> None:
        origin = next(process for process in self.world.processes if "origin.py" in str(process.args))
        origin.send_signal(signal.SIGSTOP)
        self.stopped.wait(STALL_SECONDS)
        origin.send_signal(signal.SIGCONT)
