# shellcheck shell=bash disable=SC2034,SC2154
# tests/flow/points.sh: SIGKILL of a process of a job at each named point of a checkpoint (`dbg3
# help faults`). Sourced after lib.sh by the flows that kill ranks, coordinator and launcher.
#
# The job is `ring` on two ranks with epochs ten times a second; the second time that the process
# whose point it is comes there, it stops. Then the victim is killed and the other goes on. After
# that a restart continues the newest epoch to the end, and none that was complete is lost.

points() { # rank|coordinator
    dbg3 help faults | awk -v whose="$1" '$2 == whose {print $1}' |
        grep -vxE 'fine-.*|log-.*|restarted'
}

is_stopped() { # PID
    grep -q '^State:.*T (stopped)' "/proc/$1/status"
}

# The launcher: the child of dbg3 that is not gone.
launcher_pid() { # JOB
    local pid
    for pid in $(cat "/proc/${job_pid[$1]}/task/${job_pid[$1]}/children"); do
        expect_equal "the launcher's name" "$(cat "/proc/$pid/comm")" mpiexec
        echo "$pid"
    done
}

# Starts the job and waits for the process that stops at POINT: $stopped, of $rank_pid or dbg3.
start_to_point() { # POINT WHOSE
    local point=$1 whose=$2 nth=2
    [ "$point" != epoch-trimmed ] || nth=1
    rm -f until
    start "$point" env DBG3_FAULT="$point:1:$nth:stop" dbg3 batch --every 100ms --keep-epochs 1 \
        --session "$point.dbg3" -- mpiexec -n 2 "$FLOW_PROGRAMS/ring" until
    wait_until 30 messages_at_least 1 1 "$point.dbg3"
    ranks_pid=$(rank_pid 1 "$point.dbg3")
    stopped=$ranks_pid
    [ "$whose" = rank ] || stopped=${job_pid[$point]}
    wait_until 30 is_stopped "$stopped"
}

# What was complete is there, what was not is gone, and the job goes on from it to its end.
check_restart() { # POINT
    local session=$1.dbg3 said newest
    said=$(sed -n 's/^dbg3: epoch \([0-9]*\) complete.*/\1/p' "$1.err" | tail -n 1)
    echo end >until
    expect_exit 0 "$1.restart" dbg3 restart --session "$session"
    expect_line "$1.restart.out" '^OK ring$'
    expect_exit 0 list dbg3 list --json --session "$session"
    epoch_numbers list.out >numbers
    ls "$session/epochs" >folders
    expect_same folders numbers
    newest=$(tail -n 1 numbers | sed 's/^0*//')
    [ "$newest" -ge "$said" ] || fail "$1: epoch $said was complete, and the newest is $newest"
    ! find "$session" -name '*.part' | grep . || fail "$1: a torn image is left"
}

# Numbers of the epochs that `dbg3 list --json` names, as their folders are called.
epoch_numbers() { # FILE
    python3 -c 'import json, sys
for epoch in json.load(open(sys.argv[1]))["epochs"]:
    print("%04d" % epoch["number"])' "$1"
}

go_on() { # PID
    kill -s CONT "$1" 2>/dev/null || true # it may be gone with its job
}
