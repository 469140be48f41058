#!/usr/bin/env python3
"""Loads dragoman with everything at once for as long as wanted, and compares the end with the start.

    soak/runner.py --minutes 10
    soak/runner.py --exchanges 1000000 --flows 100000

In two network namespaces, through real rules: HTTP/1 and HTTP/2, gRPC, WebSockets, Redis and raw bytes; good servers
and bad ones; slow apps, resets, half-closes, refused and swallowed connections; reloads and rotated logs. Memory,
descriptors, tasks, open flows, pooled connections, series and connection tracking are sampled each second and drawn
as a picture (--out). Exits with 1 if a good server's answer got lost, or if what should be as at the start is not.
Needs root; leaves nothing but the picture and the samples.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import picture
from events import Events
from programs import Load, Programs, bulk, mixed
from watch import TITLES, Watch, compare
from world import ROOT, Trouble, World

WARM_UP_SECONDS = 40
# Idle connections are closed after 3 s and looked at every 5 s; entries of connection tracking go within 5 s.
SETTLE_SECONDS, SETTLE_AT_MOST_SECONDS = 15, 120
# An allocator keeps some of what was freed, in pieces. Five bytes lost for each of a million exchanges are more than this.
RSS_BAND_KIB = 4096
# A source port that was just in use can meet an entry of connection tracking that is not gone yet; the capture refuses such
# a connection rather than let it pass by (docs/adr/0016-capture-fails-closed.md). Of so many flows one may.
FLOWS_FOR_ONE_REFUSED = 10_000
REFUSED = ("ConnectionRefusedError", "Connection refused")


class Soak:
    def __init__(self, world: World, arguments):
        self.world, self.arguments = world, arguments
        self.watch = Watch(world)
        self.outcomes = {"good": {}, "bad": {}}
        self.wrong, self.refused = [], 0
        self.events = {}

    def run(self) -> bool:
        say("two network namespaces, servers, dragoman and its rules")
        self.world.build()
        (self.world.scratch / "small").write_bytes(bytes(100))
        self.watch.start()
        self.load("warm-up", 900, lambda: self.elapsed() < WARM_UP_SECONDS)
        start = self.settle("settling", lambda _: True)
        self.load("load", 901, self.goes_on)
        end = self.settle("settling", lambda sample: all(holds for *_, holds in self.rows(start, sample)))
        self.watch.stopped.set()
        self.watch.join()
        return self.verdict(start, end)

    def rows(self, start: dict, end: dict) -> list:
        return compare(start, end, RSS_BAND_KIB)

    def elapsed(self) -> float:
        return time.monotonic() - self.phase_began

    def goes_on(self) -> bool:
        arguments, latest = self.arguments, self.watch.latest()
        if arguments.exchanges or arguments.flows:
            return latest["exchanges"] < arguments.exchanges or latest["ended"] < arguments.flows
        return self.elapsed() < arguments.minutes * 60

    def load(self, what: str, seed: int, goes_on) -> None:
        """Loads dragoman until `goes_on` says no more."""
        self.phase_began = time.monotonic()
        self.watch.mark(what)
        counted = self.arguments.exchanges or self.arguments.flows
        load = Load(self.world, self.arguments.workers, 1e9, seed)
        programs = Programs(self.world, mixed() + (bulk() if counted else []))
        events = Events(self.world)
        programs.start()
        events.start()
        while goes_on():
            self.world.alive(self.world.dragoman)
            if load.process.poll() is not None:
                raise Trouble(f"the load has ended: {load.process.communicate()[1]}")
            self.progress(what)
            time.sleep(1)
        for thread in (programs, events):
            thread.stopped.set()
        self.keep(json.loads(load.stop()))
        programs.join()
        events.join()
        for trouble in programs.wrong:
            self.went_wrong(trouble, 1)
        for name, count in (events.counts | programs.runs).items():
            self.events[name] = self.events.get(name, 0) + count

    def keep(self, tally: dict) -> None:
        for kind, scenarios in tally.items():
            for scenario, outcomes in scenarios.items():
                known = self.outcomes[kind].setdefault(scenario, {})
                for outcome, count in outcomes.items():
                    known[outcome] = known.get(outcome, 0) + count
                    if kind == "good" and outcome != "ok":
                        self.went_wrong(f"{scenario}: {outcome}, {count} times", count)

    def went_wrong(self, what: str, count: int) -> None:
        if any(sign in what for sign in REFUSED):
            self.refused += count
        else:
            self.wrong.append(what)

    def settle(self, what: str, is_settled) -> dict:
        """Waits until all is closed that closes by itself, and returns a sample of then."""
        self.phase_began = time.monotonic()
        self.watch.mark(what)
        while True:
            self.world.alive(self.world.dragoman)
            self.progress(what)
            # Whoever lists the table has the kernel take out what has expired.
            subprocess.run(self.world.inside("app", "conntrack", "-L"), check=True, capture_output=True)
            time.sleep(1)
            latest = self.watch.latest()
            quiet = not any(latest[figure] for figure in ("flows", "pooled", "streams", "waiting"))
            if self.elapsed() > SETTLE_SECONDS and quiet and is_settled(latest):
                return latest
            if self.elapsed() > SETTLE_AT_MOST_SECONDS:
                return latest

    def progress(self, what: str) -> None:
        latest = self.watch.latest()
        if not latest:
            return
        of = self.arguments
        if what != "load":
            done = f"{self.elapsed():.0f} s"
        elif of.exchanges or of.flows:
            done = f"{latest['exchanges']:,}/{of.exchanges:,} exchanges, {latest['ended']:,}/{of.flows:,} flows"
        else:
            done = f"{self.elapsed() / 60:.1f}/{of.minutes:g} min"
        line = (
            f"soak: {what} {done}: {latest['rss_kib'] / 1024:.1f} MiB, {latest['descriptors']} descriptors, "
            f"{latest['tasks']} tasks, {latest['flows']} flows, {latest['series']} series, {latest['exchanges']:,} exchanges"
        )
        if sys.stdout.isatty():
            print(f"\r\033[K{line}", end="", flush=True)
        elif int(self.elapsed()) % 15 == 0:
            print(line, flush=True)

    def verdict(self, start: dict, end: dict) -> bool:
        rows = self.rows(start, end)
        strangers = self.watch.page.strangers(self.world)
        wrong = self.wrong + [f"a series with a label of no closed set: {series}" for series in strangers]
        if self.refused > end["ended"] / FLOWS_FOR_ONE_REFUSED:
            wrong.append(f"{self.refused} connections were refused by the capture")
        out = self.arguments.out
        out.mkdir(parents=True, exist_ok=True)
        minutes = self.watch.samples[-1]["seconds"] / 60
        caption = f"dragoman, {minutes:.0f} minutes: {end['exchanges']:,} exchanges, {end['ended']:,} flows"
        (out / "soak.svg").write_text(picture.draw(self.watch.samples, TITLES, self.watch.marks, caption))
        result = {"start": start, "end": end, "outcomes": self.outcomes, "events": self.events}
        result["samples"] = self.watch.samples
        (out / "soak.json").write_text(json.dumps(result, indent=1))
        say(f"{end['exchanges']:,} exchanges and {end['ended']:,} flows in {minutes:.0f} minutes")
        print("\nbad servers, what the app saw:")
        for scenario, outcomes in sorted(self.outcomes["bad"].items()):
            print(f"  {scenario:34} " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
        print("\nbeside the load: " + ", ".join(f"{count} {name}" for name, count in self.events.items()))
        print(f"\n{'figure':28}{'start':>12}{'end':>12}  allowed")
        for figure, before, after, allowed, holds in rows:
            print(f"{TITLES[figure]:28}{before:>12,}{after:>12,}  {allowed}{'' if holds else '   <-- NOT SO'}")
        print(f"\nconnections that the capture refused: {self.refused}")
        for trouble in wrong:
            print(f"WRONG: {trouble}")
        print(f"\nthe picture: {out / 'soak.svg'}; each sample and outcome: {out / 'soak.json'}")
        return all(holds for *_, holds in rows) and not wrong


def say(what: str) -> None:
    clear = "\r\033[K" if sys.stdout.isatty() else ""
    print(f"{clear}soak: {what}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--exchanges", type=int, default=0, help="go on until so many were served, instead of --minutes")
    parser.add_argument("--flows", type=int, default=0, help="and so many flows")
    parser.add_argument("--workers", type=int, default=30, help="programs of the soak's own load at once")
    parser.add_argument("--binaries", type=Path, default=ROOT / "target/static", help="of dragoman and dragoman-init")
    parser.add_argument("--out", type=Path, default=ROOT / "target/soak")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("soak: needs root: it makes network namespaces")
    for binary in ("dragoman", "dragoman-init"):
        if not (arguments.binaries / binary).exists():
            sys.exit(f"soak: no {arguments.binaries / binary}: 'make soak' builds it, --binaries says where it is")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="dragoman-soak-") as scratch:
        os.chmod(scratch, 0o755)
        world = World(Path(scratch), arguments.binaries)
        try:
            return 0 if Soak(world, arguments).run() else 1
        except (Trouble, subprocess.CalledProcessError) as error:
            print(f"\nsoak: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nsoak: interrupted; cleaning up", file=sys.stderr)
            return 130
        finally:
            world.end()


if __name__ == "__main__":
    sys.exit(main())
