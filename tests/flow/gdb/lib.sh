# shellcheck shell=bash
# tests/flow/gdb/lib.sh: what the gdb-*.flow tests share, on top of tests/flow/lib.sh

GDB_PROGRAMS=$BUILD/tests/flow/gdb
GDBSERVER=$BUILD/gdbbridge/gdbserver
# GDB on the machine of the program shall read files itself, as `dbg3 isolate` tells it to: it
# otherwise warns that reading them through a stub is slow.
GDB=(gdb -nx -batch -iex "set sysroot /" -iex "set debuginfod enabled off")
need gdb
cp "$GDB_PROGRAMS"/* .

# Runs GDB on PROGRAM with the commands on standard input, one a line; output in NAME.out. GDB's
# exit code is in $code. Whatever GDB or the stub warn of fails the test.
gdb_run() { # NAME PROGRAM
    local name=$1 program=$2
    cat >"$name.gdb"
    code=0
    "${GDB[@]}" "$program" -x "$name.gdb" >"$name.out" 2>&1 </dev/null || code=$?
    expect_no_line "$name.out" \
        '[Ww]arning|rror in sourced|Traceback|Remote connection closed|Ignoring packet'
}

# For gdb_run: a command that GDB ends with an error, whose text is printed behind "error: ".
failing() { # COMMAND
    cat <<GDB
python
try:
    gdb.execute('$1')
except gdb.error as e:
    print("error: %s" % e)
end
GDB
}

# The lines of a file that match, in order: one regular expression a line on standard input.
expect_lines() { # FILE
    local regex at=0 found
    while IFS= read -r regex; do
        found=$(tail -n +$((at + 1)) "$1" | grep -En -m 1 -- "$regex" | cut -d: -f1) || true
        [ -n "$found" ] || {
            cat "$1" >&2
            fail "$1 has no line behind line $at that matches: $regex"
        }
        at=$((at + found))
    done
}

remote() { # PROGRAM ARGUMENT...: the command that connects GDB
    echo "target remote | $GDBSERVER $*"
}

extended() { # as `target extended-remote`
    echo "target extended-remote | $GDBSERVER $*"
}
