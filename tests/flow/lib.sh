# shellcheck shell=bash disable=SC2034
# tests/flow/lib.sh: what the flow tests share. Sourced by each *.flow; the current folder is empty
# and the test's own, DBG3_ROOT is the source tree, BUILD the build folder (default: build in it).
#
# FLOW_LOG is what run-flow shows of a test that fails.
#
# Anything that fails ends the test with one line that says where. Sessions are made in the current
# folder. Whatever was started with `start` is stopped when the test ends.

set -euo pipefail

: "${DBG3_ROOT:?is set by tests/run-flow}"
BUILD=${BUILD:-$DBG3_ROOT/build}
case $BUILD in /*) ;; *) BUILD=$DBG3_ROOT/$BUILD ;; esac
SCENARIOS=$BUILD/scenarios
FLOW_PROGRAMS=$BUILD/tests/flow/programs
PATH=$BUILD:$PATH
export NO_COLOR=1

declare -A job_pid=() # of what `start` started, by name

fail() { # MESSAGE...
    local i
    trap '' TERM
    echo "FAILED: $*" >&2
    for ((i = 1; i < ${#FUNCNAME[@]}; i++)); do
        echo "    in ${FUNCNAME[i]}, ${BASH_SOURCE[i]##*/}:${BASH_LINENO[i - 1]}" >&2
    done
    exit 1
}

# The limit of tests/run-flow, which ends what the test waits for, too: bash comes here behind that.
trap 'exec 2>>"$FLOW_LOG"; fail "still ran at the time limit"' TERM

# Ends the test, which cannot run here; tests/run-flow says why and counts it.
skip() { # REASON...
    echo "skipped: $*"
    exit 77
}

# A program that the test cannot do without: a name on the PATH or a file.
need() { # PROGRAM...
    local p
    for p in "$@"; do
        command -v "$p" >/dev/null || fail "needs $p"
    done
}

# ---- commands and what they print ------------------------------------------------------------

# Runs a command with its output in NAME.out and NAME.err; its exit code must be CODE, which may be
# several: "3|5". Its code is in $code afterwards.
expect_exit() { # CODE NAME COMMAND...
    local want=$1 name=$2
    shift 2
    code=0
    "$@" >"$name.out" 2>"$name.err" </dev/null || code=$?
    [[ "|$want|" == *"|$code|"* ]] || {
        tail -n 20 "$name.err" "$name.out" >&2
        fail "'$*' exited with $code, not $want"
    }
}

# A line of the file matches the extended regular expression.
expect_line() { # FILE REGEX
    grep -Eq -- "$2" "$1" || {
        tail -n 20 "$1" >&2
        fail "no line in $1 matches: $2"
    }
}

expect_no_line() { # FILE REGEX
    ! grep -En -- "$2" "$1" >&2 || fail "a line in $1 matches: $2"
}

expect_equal() { # WHAT GOT WANTED
    [ "$2" = "$3" ] || fail "$1: '$2', not '$3'"
}

expect_same() { # FILE FILE
    cmp -s "$1" "$2" || {
        diff "$1" "$2" | head -n 20 >&2
        fail "$1 and $2 differ"
    }
}

# A value of a JSON file: `json FILE failures 0 rank`; prints nothing if there is no such thing.
json() { # FILE KEY...
    python3 - "$@" <<'PYTHON'
import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2:]:
    try:
        if key == "length":
            value = len(value)
        else:
            value = value[int(key) if isinstance(value, list) else key]
    except (KeyError, IndexError):
        sys.exit(0)
print(json.dumps(value) if isinstance(value, (dict, list, bool)) else value)
PYTHON
}

# What the program prints without dbg3, in NAME.native (made once a test). MPICH itself hangs now
# and then, where threads send to themselves (the program handles): such a run is made again.
native() { # NAME COMMAND...
    local name=$1 try code
    shift
    [ -e "$name.native" ] && return
    for try in 1 2 3; do
        timeout 60 "$@" >"$name.native" 2>"$name.native-err" </dev/null && return
        code=$?
        [ "$code" = 124 ] || break
    done
    fail "'$*' fails without dbg3 (exit $code, try $try)"
}

# What the header of a scenario says: `scenario late_crash Expect`.
scenario() { # NAME FIELD
    "$DBG3_ROOT/scenarios/index" "$1" "$2"
}

# Takes "SIGSEGV on rank 2 in strike" apart into $how, $who and $where.
scenario_expect() { # NAME
    read -r how _ _ who _ where <<<"$(scenario "$1" Expect)"
}

scenario_ranks() { # NAME
    scenario "$1" Ranks | grep -oE '^[0-9]+'
}

# ---- waiting ---------------------------------------------------------------------------------

# Until the command succeeds; looks again after 20 ms, then ever more rarely, up to twice a second.
wait_until() { # SECONDS COMMAND...
    local limit=$((SECONDS + $1)) pause=20
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $limit ] || { describe_jobs && fail "waited in vain for: $*"; }
        sleep "$(printf '0.%03d' $pause)"
        pause=$((pause * 3 / 2 < 500 ? pause * 3 / 2 : 500))
    done
}

file_has() { # FILE REGEX
    [ -e "$1" ] && grep -Eq -- "$2" "$1"
}

# At least N epochs are complete in the session (default: latest.dbg3).
epochs_at_least() { # N [SESSION]
    local n
    dbg3 list --json --session "${2:-latest.dbg3}" >list.json.$$ 2>/dev/null || return 1
    n=$(json list.json.$$ epochs length)
    [ "${n:-0}" -ge "$1" ]
}

# Rank RANK of the running phase has counted N messages.
messages_at_least() { # RANK N [SESSION]
    local n
    dbg3 status --json --rank "$1" --session "${3:-latest.dbg3}" >rank.json.$$ 2>/dev/null ||
        return 1
    n=$(json rank.json.$$ counters 0 messages)
    [ "$(json rank.json.$$ running)" = true ] && [ "${n:-0}" -ge "$2" ]
}

# ---- background jobs and ranks ---------------------------------------------------------------

# Starts a command behind the test, output in NAME.out and NAME.err.
start() { # NAME COMMAND...
    local name=$1
    shift
    "$@" >"$name.out" 2>"$name.err" </dev/null &
    job_pid[$name]=$!
}

# What has become of those that were started: the test's folder may be out of reach.
describe_jobs() {
    local name state
    for name in "${!job_pid[@]}"; do
        state="still runs"
        ! is_gone "${job_pid[$name]}" || state="has ended"
        echo "$name $state; the last that it says:" >&2
        tail -n 10 "$name.err" | sed 's/^/    /' >&2
    done
}

# Waits for it; its exit code must be CODE, as in expect_exit.
finish() { # NAME CODE
    code=0
    { wait "${job_pid[$1]}" || code=$?; } 2>/dev/null # bash would tell that it was killed
    unset "job_pid[$1]"
    [[ "|$2|" == *"|$code|"* ]] || {
        tail -n 20 "$1.err" "$1.out" >&2
        fail "$1 exited with $code, not $2"
    }
}

# Whether PID was started, at whatever distance, by this test.
is_ours() { # PID
    local pid=$1
    while [[ $pid =~ ^[0-9]+$ ]] && [ "$pid" -gt 1 ]; do
        [ "$pid" -ne $$ ] || return 0
        pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) || return 1
    done
    return 1
}

is_gone() { # PID
    ! [ -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"
}

# Sends a signal, but only to a process of this test.
signal_pid() { # SIGNAL PID
    [[ $2 =~ ^[0-9]+$ ]] && [ "$2" -gt 1 ] && [ "$2" -ne $$ ] && is_ours "$2" ||
        fail "will not send $1 to '$2': no process of this test"
    kill -s "$1" "$2" || fail "kill -s $1 $2"
}

signal_job() { # SIGNAL NAME
    signal_pid "$1" "${job_pid[$2]:-}"
}

# The pid of a rank of the running session.
rank_pid() { # RANK [SESSION]
    dbg3 status --json --rank "$1" --session "${2:-latest.dbg3}" >rank.json.$$ || return 1
    json rank.json.$$ counters 0 pid
}

kill_rank() { # RANK [SIGNAL [SESSION]]
    signal_pid "${2:-KILL}" "$(rank_pid "$1" "${3:-latest.dbg3}")"
}

stop_jobs() {
    local name
    trap - EXIT
    for name in "${!job_pid[@]}"; do
        is_ours "${job_pid[$name]}" || continue
        echo "stopping $name, which still runs" >&2
        kill -s TERM "${job_pid[$name]}" 2>/dev/null || continue
        sleep 1
        kill -s KILL "${job_pid[$name]}" 2>/dev/null || true
    done
}
trap stop_jobs EXIT
