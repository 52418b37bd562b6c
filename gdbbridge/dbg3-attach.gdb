# dbg3-attach.gdb - for a GDB that attaches to a rank which "dbg3 isolate --wait" has left: gdb -ix FILE
#
# The process was started as another program than the one whose memory it has; system calls of the
# application come to dbg3 as SIGSYS; SIGSTOP is what it waits in.
set exec-file-mismatch off
handle SIGSYS nostop noprint pass
handle SIGSTOP nostop noprint nopass
