"""What the measurements share: running programs, interleaving, medians, the table.

A measurement is a function that takes a Bench and yields Rows. Durations are seconds, sizes bytes,
unless a name says otherwise.
"""

import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """A command did not do what the measurement needs."""


@dataclasses.dataclass
class Row:
    """One line of the table: the same thing plainly and under dbg3, or one figure alone."""

    name: str
    unit: str
    plain: list = None  # one value a run
    dbg3: list = None
    note: str = ""

    def ratio(self):
        if not self.plain or not self.dbg3 or statistics.median(self.plain) == 0:
            return None
        return statistics.median(self.dbg3) / statistics.median(self.plain)


class Bench:
    """Where things are, how often to run them, and a scratch folder on the disk to be measured."""

    def __init__(self, build, runs, folder):
        self.build = Path(build).resolve()
        self.runs = runs
        self.folder = Path(tempfile.mkdtemp(prefix="dbg3-bench.", dir=Path(folder).resolve()))
        self.dbg3 = str(self.build / "dbg3")
        self.gate = str(self.build / "bench" / "gate")
        self.walk = str(self.build / "tests" / "flow" / "programs" / "walk")
        self.touch = str(self.build / "tests" / "flow" / "programs" / "touch")
        self.count = 0

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh(self):
        """An empty folder to run in; sessions are made there."""
        self.count += 1
        path = self.folder / f"run-{self.count}"
        path.mkdir()
        return path

    def session(self):
        """The session that dbg3 commands get with --session, so that names do not matter."""
        return str(self.fresh() / "job.dbg3")


def run(command, cwd, ok=(0,), limit=1800):
    """Runs a command to its end; returns (standard output, seconds)."""
    start = time.monotonic()
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=limit)
    took = time.monotonic() - start
    if done.returncode not in ok:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Failed(f"{' '.join(command[:4])} ...: exit code {done.returncode}: {''.join(last)}")
    return done.stdout, took


class Job:
    """A command that runs behind the measurement, whose output is read line by line."""

    def __init__(self, command, cwd):
        self.start = time.monotonic()
        self.process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def wait_line(self, beginning):
        """Reads up to a line with this beginning; returns seconds since the start of the job."""
        for line in self.process.stdout:
            if line.startswith(beginning):
                return time.monotonic() - self.start
        raise Failed(f"the job ended before it printed '{beginning}'")

    def stop(self):
        """Ctrl-C, and the rest of its output thrown away."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def last_json(text):
    """The last JSON object that begins a line of a program's output; other lines are skipped."""
    decoder, found, at = json.JSONDecoder(), None, 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        if text[at] == "{":
            try:
                found, end = decoder.raw_decode(text, at)
            except ValueError:
                pass
        at = end
    if found is None:
        raise Failed("no JSON in the output")
    return found


def dig(value, *keys):
    """value[key][key]..., or None where something is missing."""
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def need(value, what):
    if value is None:
        raise Failed(f"dbg3 --json says nothing of {what}")
    return value


def interleave(runs, **variants):
    """A B A B ...: {name: [one value a run]}. The first round only warms up."""
    values = {name: [] for name in variants}
    for i in range(runs + 1):
        for name, variant in variants.items():
            value = variant()
            if i > 0:
                values[name].append(value)
    return values


def text_of(value, unit):
    """Three significant digits in a unit that suits."""
    if value is None:
        return "-"
    scales = {
        "ns": [(1e9, "s"), (1e6, "ms"), (1e3, "us"), (1, "ns")],
        "s": [(1, "s"), (1e-3, "ms"), (1e-6, "us")],
        "B": [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")],
        "B/s": [(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")],
    }.get(unit, [(1, unit)])
    scale, name = next((s for s in scales if abs(value) >= s[0]), scales[-1])
    digits = ".3g" if abs(value / scale) < 999.5 else ".0f"
    return f"{value / scale:{digits}} {name}"


def print_table(rows):
    """At most 80 columns: name 30, plain 12, dbg3 12, ratio 7, spread 7, and a mark for notes."""
    median = lambda values: statistics.median(values) if values else None
    print(f"{'':30}{'plain':>12}{'dbg3':>12}{'ratio':>8}{'spread':>9}")
    for row in rows:
        ratio = row.ratio()
        values = row.dbg3 or row.plain or []
        spread = (max(values) - min(values)) / median(values) if len(values) > 1 else None
        print(f"{row.name[:29]:30}{text_of(median(row.plain), row.unit):>12}"
              f"{text_of(median(row.dbg3), row.unit):>12}"
              f"{'' if ratio is None else f'{ratio:.2f}x':>8}"
              f"{'' if not spread else f'{spread:.0%}':>9}")
        if row.note:
            print(f"    {row.note[:75]}")


def as_json(rows):
    return [dict(dataclasses.asdict(row), ratio=row.ratio()) for row in rows]


def memory_available():
    """Bytes that could be had without swapping."""
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))


def machine():
    """What the figures depend on."""
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                  if line.startswith("model name")), "")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": os.uname().release,
            "load": os.getloadavg()[0], "when": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
