"""dbg3-gdb.py - the commands "dbg3 ..." in GDB

`dbg3 isolate` makes GDB source this file. Everything is done by the stub's monitor commands, which
front ends without Python use as they are; here they get their place in GDB's help, addresses of
expressions, and the "continue" that a move needs.
"""

import gdb

# What a monitor command says first when it has set a goal (set_goal in by_message.c).
GOAL = "continue goes "

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
        if not text.startswith(GOAL):
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
        super().invoke(" ".join(options + [what]), from_tty)


Dbg3()
Say("when", """Say at which event the rank is, and what it sent or received there.""")
Say("messages", """List the rank's messages: dbg3 messages [FILTER] [FIRST [LAST]]
Those around the present place, or those of the events FIRST to LAST.""" + FILTER)
Say("break-msg", """Stop at messages: dbg3 break-msg FILTER
The rank stops when the call that sent or received such a message has returned.
Without FILTER, list these breakpoints; "dbg3 delete-msg [N]" deletes them.""" + FILTER)
Say("delete-msg", """Delete a breakpoint on messages: dbg3 delete-msg [N]
Without N, delete all.""")
WhoSent("who-sent", """Say who sent a message: dbg3 who-sent [FILTER] [N | EXPRESSION]
Of the messages that were received at the present event, at event N, or of the last one that
brought what is now in a buffer (array[3], *pointer): the sender's rank, its event, and
the command that isolates the sender exactly there.""" + FILTER)
Move("goto-msg", """Go to an event: dbg3 goto-msg N
The rank stops where the call of event N has just returned. On the way forward it may stop
at a breakpoint before.""")
Move("next-msg", """Go to the next message: dbg3 next-msg [FILTER]""" + FILTER)
Move("prev-msg", """Go back to the message before: dbg3 prev-msg [FILTER]""" + FILTER)
