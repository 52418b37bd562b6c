#!/usr/bin/env bash
# The three phases of dbg3 on scenarios/late_crash, unattended: four ranks, one of which dies of a
# wrong index after thousands of messages. Takes a few seconds; BUILD is the build folder.
#
# What is typed is shown after "$"; what follows is what dbg3 and GDB say. Exit code 0: the isolated
# rank ran into the same failure, at the line that makes it.
set -euo pipefail
cd "$(dirname "$0")/.."
BUILD=$(realpath "${BUILD:-build}")
program=$BUILD/scenarios/late_crash
ranks=4

folder=$(mktemp -d "${TMPDIR:-/tmp}/dbg3-demo.XXXXXX")
cd "$folder"
PATH=$BUILD:$PATH
export NO_COLOR=1

say() {
    printf '\n%s\n' "$*" | fold -s -w 79 | sed 's/ $//'
}

# Shows a command as one would type it and runs it, with its output in NAME.log; its code: $code.
run() { # NAME COMMAND...
    local name=$1
    shift
    local shown="${*@Q}"
    shown=${shown//"'$program'"/./late_crash}
    printf '\n$ %s\n' "$(sed -E "s/'([a-z0-9-]+)'/\\1/g" <<<"$shown")"
    code=0
    timeout 120 "$@" >"$name.log" 2>&1 </dev/null || code=$?
    grep -vE '^(=+$|= )|^step |^YOUR APPLICATION|^This typically|^Please see|^$' "$name.log" || true
}

broken() {
    echo "demo: $*; everything is in $folder" >&2
    exit 1
}

say "An MPI program that knows nothing of dbg3 dies late, on one of $ranks ranks. First it runs" \
    "under control: counters of its messages, and a checkpoint of the whole job after every 10000" \
    "(--every 1h would make one each hour)."
run batch dbg3 batch --every-n-msgs 10000 -- mpiexec -n $ranks "$program"
[ $code -eq 3 ] || broken "batch ended with $code, not with 3 (a rank failed)"

say "The job again from the last checkpoint before the failure. Now each rank records what it" \
    "receives, and checkpoints itself after every 10 messages."
run refine dbg3 refine --every-n-msgs 10
[ $code -eq 3 ] || broken "refine ended with $code, not with 3 (a rank failed)"

rank=$(grep -oE 'isolate --rank [0-9]+' refine.log | grep -oE '[0-9]+' | tail -n 1) ||
    broken "refine names no rank to isolate"
say "Rank $rank alone, from its last small checkpoint, in GDB: one process, no mpiexec, no MPI," \
    "no peers. What it received comes from the log."
run isolate dbg3 isolate --rank "$rank" under gdb -batch -ex continue -ex bt -ex 'print cell'
grep -q 'SIGSEGV' isolate.log || broken "the isolated rank did not fail again"
grep -qE '^#0 .* strike .*late_crash\.c:[0-9]+' isolate.log || broken "it failed at another place"

say "The same failure, as often as you like:"
echo "cd $folder && $BUILD/dbg3 isolate --rank $rank under gdb"
