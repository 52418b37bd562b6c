"""Talks to a GDB as a person does: types commands, waits for what it prints, presses Ctrl-C.

    gdb_talk.py SCRIPT COMMAND...

Lines of the script: `wait N TEXT` until TEXT has been printed in N lines, `until COMMAND` of the
shell succeeds, `interrupt`, `type LINE`.
All that is printed goes to standard output. Ends with GDB's exit code; 1 if it ends before a wait
is over.
"""
import signal
import subprocess
import sys
import threading
import time

lines = []
news = threading.Condition()
gdb = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, bufsize=1)


def listen():
    for line in gdb.stdout:
        sys.stdout.write(line)
        with news:
            lines.append(line)
            news.notify()
    with news:
        lines.append(None)
        news.notify()


def wait(count, text):
    with news:
        while sum(text in line for line in lines if line) < count:
            if None in lines:
                sys.exit(f"it has ended without: {text}")
            news.wait()


listener = threading.Thread(target=listen, daemon=True)
listener.start()
for row in open(sys.argv[1]):
    verb, _, rest = row.rstrip("\n").partition(" ")
    if verb == "type":
        gdb.stdin.write(rest + "\n")
        gdb.stdin.flush()
    elif verb == "wait":
        number, _, what = rest.partition(" ")
        wait(int(number), what)
    elif verb == "until":
        while subprocess.run(rest, shell=True, check=False).returncode:
            time.sleep(0.05)
    elif verb == "interrupt":
        gdb.send_signal(signal.SIGINT)
gdb.stdin.close()
listener.join()
sys.exit(gdb.wait())
