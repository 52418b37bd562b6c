#!/usr/bin/env python3
"""dbg3's measurements, interleaved with plain runs: see bench/README.md.

    bench.py [options] MEASUREMENT...          gate, stencil, epoch, fine, restart, isolate,
                                               reverse, all
    bench.py [options] ratio -- LAUNCHER...    run time of any program in phase 1 and phase 2
"""

import argparse
import ast
import json
import os
import sys
import time

sys.dont_write_bytecode = True  # nothing is left in the source tree
# pylint: disable=wrong-import-position
from runs import (Bench, Failed, Job, Row, as_json, dig, interleave, last_json, machine,
                  memory_available, need, print_table, run, ROOT)

MIB = 1 << 20


# ---- cost of a call ------------------------------------------------------------------------------

def gate(bench):
    """ns of single calls, plainly and through the gate in phase 1."""
    launcher = ["mpiexec", "-n", "2", bench.gate]

    def plain():
        return last_json(run(launcher, bench.fresh())[0])["gate"]

    def batch():
        command = [bench.dbg3, "batch", "--quiet", "--session", bench.session(), "--"]
        return last_json(run(command + launcher, bench.fresh())[0])["gate"]

    values = interleave(bench.runs, plain=plain, batch=batch)
    for name in values["plain"][0]:
        yield Row(name, "ns", [v[name] for v in values["plain"]],
                  [v[name] for v in values["batch"]])


# ---- run time of programs ------------------------------------------------------------------------

def ratio_of(bench, name, launcher, cwd=None):
    """Run time of a launcher line: plainly, in phase 1 (no epochs), in phase 2 (from its start)."""
    sessions = {}

    def timed(command):
        return run(command, cwd or bench.fresh())[1]

    def batch():
        sessions["last"] = bench.session()
        return timed([bench.dbg3, "batch", "--quiet", "--session", sessions["last"], "--"] +
                     launcher)

    def refine():
        return timed([bench.dbg3, "refine", "--quiet", "--from-start", "--session",
                      sessions["last"], "--"] + launcher)

    values = interleave(bench.runs, plain=lambda: timed(launcher), batch=batch, refine=refine)
    yield Row(f"{name}, phase 1", "s", values["plain"], values["batch"])
    yield Row(f"{name}, phase 2", "s", values["plain"], values["refine"],
              "refine --every-n-msgs 10, payload log and fine checkpoints")


def stencil(bench):
    """A halo exchange of two ranks, one a core."""
    program = str(bench.build / "tests" / "flow" / "programs" / "stencil2d")
    yield from ratio_of(bench, "stencil2d", ["mpiexec", "-n", "2", program, "5000", "256"])


# ---- epochs --------------------------------------------------------------------------------------

def ranks_for(mib):
    """As many ranks as memory carries twice over (image cache), at most 4."""
    return max(1, min(4, os.cpu_count() or 1, memory_available() // (3 * mib * MIB)))


def disk_rates(bench, size):
    """Bytes a second of dd with fsync on the same disk (random bytes), and of memcpy."""
    source, target = bench.folder / "dd.in", bench.folder / "dd.out"
    block = os.urandom(MIB)
    with open(source, "wb") as f:
        for _ in range(size // MIB):
            f.write(block)
    os.sync()
    _, took = run(["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync"], bench.folder)
    source.unlink()
    target.unlink()
    a, b = bytearray(size), bytearray(size)
    memoryview(a)[:] = b  # touch both first
    start = time.monotonic()
    memoryview(a)[:] = b
    return size / took, size / (time.monotonic() - start)


def epoch_of(bench, mib):
    """Pause, duration, write rate and size of an epoch; dd and memcpy in the same minutes."""
    ranks = ranks_for(mib)
    session = bench.session()
    touch = ["mpiexec", "-n", str(ranks), bench.touch, str(mib), "100000000", "10", "1000", "1"]
    job = Job([bench.dbg3, "batch", "--quiet", "--session", session, "--"] + touch, bench.fresh())
    pause, total, size, dd, memcpy = [], [], [], [], []
    try:
        job.wait_line("message")
        for _ in range(bench.runs):
            rates = disk_rates(bench, min(mib * ranks, 1024) * MIB)
            dd.append(rates[0])
            memcpy.append(rates[1])
            run([bench.dbg3, "checkpoint", "--json", "--session", session], bench.folder)
            listed = last_json(run([bench.dbg3, "list", "--json", "--session", session],
                                   bench.folder)[0])
            newest = need(dig(listed, "epochs", -1), "epochs")
            pause.append(need(dig(newest, "us_pause"), "us_pause") / 1e6)
            total.append(need(dig(newest, "us_total"), "us_total") / 1e6)
            size.append(need(dig(newest, "bytes"), "bytes"))
    finally:
        job.stop()
    name = f"epoch {mib} MiB x {ranks}"
    touched = [mib * MIB * ranks] * len(size)
    yield Row(f"{name}: pause", "s", dbg3=pause, note="of the rank that was stopped longest")
    yield Row(f"{name}: complete", "s", dbg3=total)
    yield Row(f"{name}: written", "B/s", dd, [s / t for s, t in zip(size, total)],
              "plain: dd with fsync on the same disk")
    yield Row(f"{name}: paused", "B/s", memcpy, [s / t for s, t in zip(size, pause)],
              "image bytes in the time of the pause; plain: memcpy")
    yield Row(f"{name}: images", "B", touched, size, "plain: what the ranks touched")


def epoch(bench):
    for mib in bench.mib:
        yield from epoch_of(bench, mib)


# ---- fine checkpoints ----------------------------------------------------------------------------

def checkpointed(bench, mib, messages, pages):
    """A session of `touch` that ran to its end, with one epoch in its middle; 2 ranks."""
    session = bench.session()
    touch = ["mpiexec", "-n", "2", bench.touch, str(mib), str(messages), str(pages), "1000", "1"]
    job = Job([bench.dbg3, "batch", "--quiet", "--session", session, "--"] + touch, bench.fresh())
    try:
        job.wait_line("message")
        run([bench.dbg3, "checkpoint", "--session", session], bench.folder)
        job.wait_line("OK touch")
    finally:
        job.stop()
    return session


def recorded(bench, mib, messages, pages):
    """The same, with a recording from the epoch on."""
    session = checkpointed(bench, mib, messages, pages)
    run([bench.dbg3, "refine", "--quiet", "--every-n-msgs", "10", "--session", session],
        bench.fresh())
    return session


def fine(bench):
    """Pause and size of fine checkpoints, every 10 messages, 10 pages changed between messages."""
    for mib in bench.mib:
        session = recorded(bench, mib, 1000, 10)
        listed = last_json(run([bench.dbg3, "list", "--json", "--session", session],
                               bench.folder)[0])
        taken = need(dig(listed, "fine"), "fine checkpoints")
        if not taken:
            raise Failed("the recording has no fine checkpoint")
        yield Row(f"fine, {mib} MiB: pause", "s",
                  dbg3=[need(dig(f, "us"), "us") / 1e6 for f in taken],
                  note="every 10 messages; about 50 pages were changed in between")
        yield Row(f"fine, {mib} MiB: size", "B",
                  dbg3=[need(dig(f, "bytes"), "bytes") for f in taken])


# ---- restart and isolate -------------------------------------------------------------------------

def restart(bench):
    """From `dbg3 restart` to the job's first line of output, beside a plain start to MPI_Init."""
    for mib in bench.mib:
        session = checkpointed(bench, mib, 3000, 10)

        def plain():
            job = Job(["mpiexec", "-n", "2", bench.touch, "0", "1", "0", "0", "1"], bench.fresh())
            took = job.wait_line("message")
            job.stop()
            return took

        def restarted():
            job = Job([bench.dbg3, "restart", "--quiet", "--epoch", "1", "--session", session],
                      bench.fresh())
            try:
                return job.wait_line("message")
            finally:
                job.stop()

        values = interleave(bench.runs, plain=plain, restart=restarted)
        more = [r - p for r, p in zip(values["restart"], values["plain"])]
        yield Row(f"restart {mib} MiB x 2", "s", values["plain"], values["restart"],
                  "to the first message; plain: mpiexec to the first message, no memory")
        yield Row(f"restart {mib} MiB x 2: beyond", "s", dbg3=more)


def isolate(bench):
    """From `dbg3 isolate` to the first command that GDB takes."""
    for mib in bench.mib:
        session = recorded(bench, mib, 1000, 10)
        took = []
        for _ in range(bench.runs):
            start = time.time()
            out, _ = run([bench.dbg3, "isolate", "--rank", "1", "--session", session, "under",
                          "gdb", "-batch", "-ex", "shell date +prompt=%s.%N", "-ex", "bt 1"],
                         bench.fresh())
            stamp = [line for line in out.splitlines() if line.startswith("prompt=")]
            if not stamp:
                raise Failed("GDB did not come to its first command")
            took.append(float(stamp[0].split("=")[1]) - start)
        yield Row(f"isolate {mib} MiB: GDB prompt", "s", dbg3=took)


# ---- backwards -----------------------------------------------------------------------------------

# What GDB is told, each time at the failure: (name, how often, before, the command itself).
BACK = [("reverse-stepi", 15, [], "reverse-stepi"),
        ("reverse-next", 7, [], "reverse-next"),
        ("back to breakpoint", 1, ["break report"], "reverse-continue"),
        ("watch 10 000 writes", 1, ["watch tally"], "reverse-continue")]

TIMED = """
import time
def timed(name, count, before, command):
    gdb.execute("continue")
    for line in before:
        gdb.execute(line)
    took = []
    for _ in range(count):
        start = time.time()
        gdb.execute(command, to_string=True)
        took.append(time.time() - start)
    gdb.execute("delete")
    print("timed=" + repr((name, sorted(took)[count // 2])))
"""


def reverse(bench):
    """Going back in GDB, from the failure: 256 MiB a rank, 10 000 writes between two messages."""
    session, folder = bench.session(), bench.fresh()
    walk = ["mpiexec", "-n", "2", bench.walk, "30", "256", "10000"]
    run([bench.dbg3, "batch", "--quiet", "--session", session, "--"] + walk, folder, ok=(3,))
    run([bench.dbg3, "refine", "--quiet", "--every-n-msgs", "10", "--session", session], folder,
        ok=(3,))
    script = os.path.join(folder, "back.py")
    with open(script, "w", encoding="utf-8") as f:
        f.write(TIMED + "".join(f"timed{row!r}\n" for row in BACK))
    took = {row[0]: [] for row in BACK}
    for _ in range(bench.runs):
        out, _ = run([bench.dbg3, "isolate", "--rank", "1", "--session", session, "under", "gdb",
                      "-nx", "-batch", "-x", script], folder)
        for line in out.splitlines():
            if line.startswith("timed="):
                name, seconds = ast.literal_eval(line.split("=", 1)[1])
                took[name].append(seconds)
    for name, values in took.items():
        if not values:
            raise Failed(f"no figure for {name}")
        yield Row(f"256 MiB: {name}", "s", dbg3=values)


MEASUREMENTS = {f.__name__: f for f in (gate, stencil, epoch, fine, restart, isolate, reverse)}


# ---- command line --------------------------------------------------------------------------------

def parse():
    argv, launcher = sys.argv[1:], []
    if "--" in argv:
        at = argv.index("--")
        argv, launcher = argv[:at], argv[at + 1:]
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build", help="build folder")
    parser.add_argument("--runs", type=int, default=5, help="runs of each variant (default: 5)")
    parser.add_argument("--folder", default=".", help="disk to write to (default: this folder)")
    parser.add_argument("--mib", default="64,1024", help="MiB a rank (default: 64,1024)")
    parser.add_argument("--json", metavar="FILE", help="write all values there too")
    parser.add_argument("what", nargs="+", choices=[*MEASUREMENTS, "ratio", "all"])
    args = parser.parse_args(argv)
    if ("ratio" in args.what) != bool(launcher):
        parser.error("'ratio' takes a launcher line after --, and nothing else does")
    args.what = list(MEASUREMENTS) if "all" in args.what else args.what
    return args, launcher


def program_of(launcher):
    """A name for the table: the last word that is a program."""
    programs = [w for w in launcher if os.path.isfile(w) and os.access(w, os.X_OK)]
    return os.path.basename((programs or launcher)[-1])


def measure(bench, what, launcher):
    """The rows of one measurement, as far as it came; the second value says how it failed."""
    rows = []
    make = ratio_of(bench, program_of(launcher), launcher, os.getcwd()) if what == "ratio" \
        else MEASUREMENTS[what](bench)
    try:
        for row in make:
            rows.append(row)
    except (Failed, OSError) as e:
        return rows, f"{what}: {e}"
    return rows, None


def main():
    args, launcher = parse()
    bench = Bench(args.build, args.runs, args.folder)
    bench.mib = [int(m) for m in args.mib.split(",")]
    failures, rows = [], []
    try:
        for what in args.what:
            some, failure = measure(bench, what, launcher)
            rows += some
            failures += [failure] if failure else []
            if some:
                print_table(some)
                print(flush=True)
    finally:
        bench.close()
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"machine": machine(), "runs": args.runs, "rows": as_json(rows),
                       "failures": failures}, f, indent=2)
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
