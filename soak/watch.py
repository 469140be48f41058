"""What is measured of dragoman, each second, and what must be at the end as it was at the start."""

import re
import threading
import time
from pathlib import Path

from world import ROOT, World

# What is sampled: its name, and whether the end must equal the start to the unit.
EQUAL = ["descriptors", "tasks", "flows", "pooled", "streams", "waiting"]
FIGURES = ["rss_kib", "descriptors", "threads", "tasks", "flows", "pooled", "streams", "waiting", "series", "conntrack"]
TITLES = {
    "rss_kib": "resident memory, KiB", "descriptors": "descriptors", "threads": "threads", "tasks": "tasks",
    "flows": "open flows", "pooled": "pooled connections", "streams": "HTTP/2 streams", "waiting": "waiting exchanges",
    "series": "series on /metrics", "conntrack": "connection tracking entries",
}
# A closed connection stays in the kernel's table for a moment, and other programs have theirs in it too.
CONNTRACK_SLACK = 20
# The scrape itself runs on a thread that comes and goes.
THREADS_SLACK = 2
SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Page:
    """What /metrics says."""

    def __init__(self, text: str):
        self.series = {(name, labels or ""): float(value) for name, labels, value in SERIES.findall(text)}

    def sum(self, name: str, *having: str) -> int:
        found = (value for (own, labels), value in self.series.items() if own == name and all(it in labels for it in having))
        return int(sum(found))

    def strangers(self, world: World) -> list:
        """Series with a value of a label that no closed list has: such a set of series grows without end."""
        causes = set(re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/causes.md").read_text(), re.MULTILINE)) | {"-"}
        is_known = {
            "destination": world.destinations().__contains__,
            "cause": causes.__contains__,
            "endpoint": re.compile(r"198\.18\.0\.\d:\d+|other").fullmatch,
            "code": re.compile(r"[1-5]\d\d|-").fullmatch,
        }
        return [
            f"{name}{{{labels}}}"
            for name, labels in self.series
            if any(key in is_known and not is_known[key](value) for key, value in LABEL.findall(labels))
        ]


class Watch(threading.Thread):
    """Samples dragoman each second, until it is told to stop."""

    def __init__(self, world: World):
        super().__init__(daemon=True)
        self.world, self.samples, self.marks = world, [], []
        self.page = Page("")
        self.began = time.monotonic()
        self.stopped = threading.Event()
        self.settled_at = self.began

    def run(self) -> None:
        while not self.stopped.wait(1):
            self.sample()

    def mark(self, what: str) -> None:
        """Notes what begins now, for the picture."""
        self.marks.append((time.monotonic() - self.began, what))

    def sample(self) -> dict:
        folder = Path(f"/proc/{self.world.dragoman.pid}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
        text = self.world.ask("/metrics").decode()
        sample = {"seconds": time.monotonic() - self.began, "rss_kib": int(status["VmRSS"].split()[0])}
        sample["threads"] = int(status["Threads"])
        if text:
            page = self.page = Page(text)
            sample["series"] = len(page.series)
            # Without the connection that asks, and its task.
            sample["descriptors"] = page.sum("process_open_fds") - 1
            sample["tasks"] = page.sum("dragoman_tasks") - 1
            sample["flows"] = page.sum("dragoman_flows_open")
            sample["pooled"] = page.sum("dragoman_pool_connections")
            sample["streams"] = page.sum("dragoman_pool_streams")
            sample["waiting"] = page.sum("dragoman_pool_waiting")
            sample["conntrack"] = page.sum("dragoman_conntrack_entries")
            sample["exchanges"] = page.sum("dragoman_exchanges_total")
            sample["ended"] = page.sum("dragoman_flows_total")
        self.samples.append(sample)
        return sample

    def latest(self) -> dict:
        return next((sample for sample in reversed(self.samples) if "series" in sample), {})


def compare(start: dict, end: dict, rss_band_kib: int) -> list:
    """The rows of the verdict: figure, start, end, what is allowed, and whether it holds."""
    rows = []
    for figure in FIGURES:
        before, after = start[figure], end[figure]
        if figure in EQUAL:
            allowed, holds = "the same", after == before
        elif figure == "rss_kib":
            allowed, holds = f"+{rss_band_kib}", after <= before + rss_band_kib
        elif figure == "series":
            # A series appears with its first event; which there may be is checked by their labels.
            allowed, holds = "closed sets", True
        else:
            slack = CONNTRACK_SLACK if figure == "conntrack" else THREADS_SLACK
            allowed, holds = f"+{slack}", after <= before + slack
        rows.append((figure, before, after, allowed, holds))
    return rows
