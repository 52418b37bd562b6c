"""dbg3-gdb.py - the commands "dbg3 ..." in GDB

`dbg3 isolate` makes GDB source this file. Everything is done by the stub's monitor commands, which
front ends without Python use as they are; here they get their place in GDB's help, addresses of
expressions, and the "continue" that a move needs.
"""

import os
import re
import shlex
import subprocess

import gdb

SITES_MAX = 4  # senders whose source lines who-sent finds: each is isolated for it, half a second
SITE = "called at "

# What a monitor command says first when it has set a goal (set_goal in by_message.c).
GOAL = "continue goes "

# What the monitor command "what-if" says first where GDB has changed something; of a difference.
CHANGED = "what-if, changed "
DIFFERENCE = "the first difference: "

FILTER = """
FILTER is any of --send, --recv, --coll (which kind), --from P (received from rank P),
--to P (sent to rank P), --tag T, --comm C."""


def monitor(line):
    """Runs a monitor command and returns what it says, without the last line's end."""
    try:
        return gdb.execute("monitor " + line, to_string=True).rstrip("\n")
    except gdb.error as e:
        raise gdb.GdbError(str(e))


class Dbg3(gdb.Command):
    """Moving an isolated rank by its messages.

Events are the recorded MPI calls of the rank, numbered as by the shell command "dbg3 messages".
At event N means: the call of event N has just returned."""

    def __init__(self):
        super().__init__("dbg3", gdb.COMMAND_RUNNING, prefix=True)


class Say(gdb.Command):
    """A command that says something and moves nothing."""

    def __init__(self, name, doc):
        self.name = name
        self.__doc__ = doc
        super().__init__("dbg3 " + name, gdb.COMMAND_STATUS)

    def invoke(self, args, from_tty):
        text = monitor(self.name + " " + args)
        if text:
            print(text)


class Move(gdb.Command):
    """A command that goes somewhere: GDB then stops there as it does anywhere."""

    def __init__(self, name, doc):
        self.name = name
        self.__doc__ = doc
        super().__init__("dbg3 " + name, gdb.COMMAND_RUNNING)

    def invoke(self, args, from_tty):
        text = monitor(self.name + " " + args)
        # a search that takes long says so before
        if not any(line.startswith(GOAL) for line in text.split("\n")):
            raise gdb.GdbError(text)
        gdb.execute("continue", from_tty)


class WhoSent(Say):
    """who-sent, which also takes an expression."""

    def invoke(self, args, from_tty):
        words = args.split()
        options = []
        while words and words[0].startswith("--"):
            options.append(words.pop(0))
            if options[-1][2:] in ("from", "to", "tag", "comm") and words:
                options.append(words.pop(0))
        what = " ".join(words)
        if what and not what.isdigit() and not what.startswith("@"):
            try:
                value = gdb.parse_and_eval(what)
            except gdb.error as e:
                raise gdb.GdbError(str(e))
            if value.address is None:
                raise gdb.GdbError("%s is in no memory: give a buffer, such as *pointer or array[3]"
                                   % what)
            what = "@0x%x %d" % (int(value.address), value.type.sizeof)
        lines = monitor("who-sent " + " ".join(options + [what]))
        lines = re.sub(r"(?<=at )0x[0-9a-f]+", lambda m: source_line(int(m[0], 16) - 1) or m[0],
                       lines).split("\n")
        sites = 0
        for line, following in zip(lines, lines[1:] + [""]):
            if following.startswith(COMMAND) and sites < SITES_MAX:
                sites += 1
                line += call_site(following.strip())
            print(line)


def source_line(pc):
    """"FILE:LINE in FUNCTION" of an instruction, or nothing."""
    line = gdb.find_pc_line(pc)
    if not line.symtab:
        return ""
    block = gdb.block_for_pc(pc)
    while block and not block.function:
        block = block.superblock
    return "%s:%d%s" % (os.path.basename(line.symtab.filename), line.line,
                        " in %s" % block.function if block else "")


# How who-sent's lines begin that name the command which isolates a sender.
COMMAND = "    dbg3 isolate "


def call_site(command):
    """", FILE:LINE in FUNCTION" of the send at which the command arrives, or nothing."""
    dbg3 = os.environ.get("DBG3_COMMAND", "dbg3")
    try:
        done = subprocess.run(shlex.quote(dbg3) + command[len("dbg3"):] +
                              " -ex 'dbg3 call-site' -batch -nx", shell=True, timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, universal_newlines=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    for line in done.stdout.split("\n"):
        if line.startswith(SITE):
            return ", " + line[len(SITE):]
    return ""


class CallSite(gdb.Command):
    """Say the source line of the call that has just returned: dbg3 call-site
At an event, that of the MPI call: GDB itself shows the line to which it has returned."""

    def __init__(self):
        super().__init__("dbg3 call-site", gdb.COMMAND_STATUS)

    def invoke(self, args, from_tty):
        frame = program_frame(gdb.newest_frame())
        line = source_line(frame.pc() - 1) if frame else ""
        if not line:
            raise gdb.GdbError("no source line is known here")
        print(SITE + line)


class WhatIf(gdb.Command):
    """Go on with what has been changed: dbg3 what-if [ASSIGNMENT]
Changing a variable, a register or memory, or calling a function, makes the rank a throw-away copy
of what was recorded. This command makes one more change, if it is given (dbg3 what-if cell = 0),
goes on, and says what the rank sends or does first that is not as recorded. "dbg3 back" returns."""

    def __init__(self):
        super().__init__("dbg3 what-if", gdb.COMMAND_RUNNING)

    def invoke(self, args, from_tty):
        if args.strip():
            gdb.execute("set var " + args)
        text = monitor("what-if")
        if not text.startswith(CHANGED):
            raise gdb.GdbError(text)
        if DIFFERENCE not in text:
            gdb.execute("continue", from_tty)
            text = monitor("what-if")
        print(text)


class Notice:
    """Says once that the rank has been changed, and how to undo it."""

    def __init__(self):
        self.said = None  # of which what-if, as the stub names it
        self.asking = False
        for event in ("memory_changed", "register_changed", "inferior_call"):
            getattr(gdb.events, event).connect(self.changed)

    def changed(self, event):
        if self.asking: # GDB tells of its own caches, too
            return
        self.asking = True
        try:
            what_if = monitor("what-if").split("\n")[0]
        except gdb.GdbError:
            return
        finally:
            self.asking = False
        if what_if == self.said or not what_if.startswith(CHANGED):
            return
        self.said = what_if
        print("dbg3: this is a what-if now: dbg3 back returns to the recorded run")

    def returned(self):
        self.said = None


class Back(Move):
    """Back from a what-if, of which the next one is told again."""

    def invoke(self, args, from_tty):
        super().invoke(args, from_tty)
        notice.returned()


def program_frame(frame):
    """The newest frame from this one on that is neither MPI's nor its Fortran interface's."""
    while frame:
        library = gdb.solib_name(frame.pc() - (1 if frame.level() else 0)) or ""
        if not os.path.basename(library).startswith("libmpich"):
            return frame
        frame = frame.older()
    return None


class Inside:
    """Where a stop is inside of the MPI library (a watchpoint on a buffer, MPI_Abort), shows the
    program's frame that called it; but not at a breakpoint, which was set for that place."""

    def __init__(self):
        gdb.events.stop.connect(self.stopped)

    def stopped(self, event):
        places = (gdb.BP_BREAKPOINT, getattr(gdb, "BP_HARDWARE_BREAKPOINT", None))
        if any(b.type in places for b in getattr(event, "breakpoints", [])):
            return
        try:
            self.show(gdb.newest_frame())
        except gdb.error: # the rank has ended, or its stack cannot be read
            pass

    def what(self, name):
        if name == "dbg3_stub_sigaction_return":
            return "a signal or a system call, which came"
        hook = re.fullmatch("dbg3_(.*)_hook", name)  # of the kernel's vdso: clock_gettime
        if hook:
            return hook.group(1) + ", which is called"
        # PMPI_Recv, pmpi_recv__, mpi_recv_f08ts_
        name = name.rstrip("_")
        name = re.sub("_f08(ts)?$", "", name[1:] if name[0] in "Pp" else name)
        return name + ", which is called"

    def show(self, frame):
        called = program_frame(frame)
        if not called or called == frame:
            return
        print("dbg3: inside of %s here:" % self.what(called.newer().name() or "MPI"))
        called.select()
        gdb.execute("frame")


class Unpaged:
    """GDB's lines about the libraries it reads when it connects do not wait for a key: what is
    typed meant the first prompt."""

    def __init__(self):
        self.off = False
        self.events = [(gdb.events.new_objfile, self.loaded), (gdb.events.stop, self.done)]
        if hasattr(gdb.events, "before_prompt"):
            self.events.append((gdb.events.before_prompt, self.done))
        for event, handler in self.events:
            event.connect(handler)

    def loaded(self, event):
        if gdb.selected_inferior().pid and gdb.parameter("pagination"):
            self.off = True
            gdb.execute("set pagination off")

    def done(self, event=None):
        if not gdb.selected_inferior().pid: # not connected yet
            return
        if self.off:
            gdb.execute("set pagination on")
        for event, handler in self.events:
            event.disconnect(handler)


Dbg3()
WhatIf()
Inside()
Unpaged()
notice = Notice()
Back("back", """Return from a what-if to the recorded run: dbg3 back
The rank stands where it stood before GDB changed something for the first time; the change, and what
came of it, is gone.""")
Say("checkpoint", """Keep this place of the rank: dbg3 checkpoint
"dbg3 restart N" comes back to it, at once. "dbg3 checkpoints" lists them.""")
Say("checkpoints", """List the places that dbg3 checkpoint has kept.""")
Say("delete-checkpoint", """Forget a checkpoint: dbg3 delete-checkpoint [N]
Without N, all.""")
Move("restart", """Go to a place that was kept: dbg3 restart N""")
Say("when", """Say at which event the rank is, and what it sent or received there.""")
Say("messages", """List the rank's messages: dbg3 messages [FILTER] [FIRST [LAST]]
Those around the present place, or those of the events FIRST to LAST.""" + FILTER)
Say("break-msg", """Stop at messages: dbg3 break-msg FILTER
The rank stops when the call that sent or received such a message has returned.
Without FILTER, list these breakpoints; "dbg3 delete-msg [N]" deletes them.""" + FILTER)
Say("delete-msg", """Delete a breakpoint on messages: dbg3 delete-msg [N]
Without N, delete all.""")
WhoSent("who-sent", """Say who sent a message: dbg3 who-sent [FILTER] [N | EXPRESSION]
Of the messages that were received at the present event, at event N, or of the one that brought what
is now in a buffer (array[3], *pointer): the sender's rank, its event, its source line, the command
that isolates the sender exactly there. What is in a buffer is looked for where it was written last;
if the program did that itself, it may be a copy: then by its bytes.""" + FILTER)
CallSite()
Move("goto-msg", """Go to an event: dbg3 goto-msg N
The rank stops where the call of event N has just returned. On the way forward it may stop
at a breakpoint before.""")
Move("next-msg", """Go to the next message: dbg3 next-msg [FILTER]""" + FILTER)
Move("prev-msg", """Go back to the message before: dbg3 prev-msg [FILTER]""" + FILTER)
