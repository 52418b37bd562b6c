#!/usr/bin/env python3
"""Runs a command at a terminal of its own, as a person would, and exits with its code.

    terminal.py [STEP]... -- COMMAND...

Each STEP in its turn: expect:REGEX waits until what was printed since the last step matches;
when:SHELL-COMMAND until that succeeds ($TERMINAL_PID is the command's pid); send:TEXT types it (^C
is Ctrl-C, \\n Return). After the last one it waits for the end. What the command prints goes to
standard output. A command that a signal ends gives 128 + signal; a step that waits for a minute
ends the command, with 99.
"""
import fcntl, os, pty, re, select, struct, subprocess, sys, termios, time

PATIENCE = 60


class Terminal:
    def __init__(self, command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp(command[0], command)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.seen = b""
        self.open = True

    def read(self, seconds):
        if not self.open:
            time.sleep(seconds)
        elif select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # the other side is closed
                data = b""
            self.open = bool(data)
            self.seen += data
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def wait(self, what, done):
        limit = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > limit or (what.startswith("expect:") and not self.open):
                print("terminal.py: waited in vain for", what, file=sys.stderr)
                os.close(self.fd)  # a hangup for the command
                sys.exit(99)
            self.read(0.05)

    def step(self, text):
        kind, _, rest = text.partition(":")
        if kind == "expect":
            self.wait(text, lambda: re.search(rest.encode(), self.seen))
            self.seen = b""
        elif kind == "when":
            env = dict(os.environ, TERMINAL_PID=str(self.pid))
            null = subprocess.DEVNULL
            self.wait(text, lambda: subprocess.run(["bash", "-c", rest], env=env, stdin=null,
                                                   stdout=null, stderr=null).returncode == 0)
        elif kind == "send":
            os.write(self.fd, rest.replace("^C", "\x03").replace("\\n", "\n").encode())
        else:
            sys.exit("terminal.py: no step: " + text)

    def end(self):
        while self.open:
            self.read(PATIENCE)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code


at = sys.argv.index("--")
terminal = Terminal(sys.argv[at + 1:])
for step in sys.argv[1:at]:
    terminal.step(step)
sys.exit(terminal.end())
