/*
 * tables.c - exit codes and settings, as help and the man page print them
 */
#include "runtime/cmd/cmd.h"

const struct exit_row exit_rows[] = {
    {EXIT_DONE, "done; batch, restart, refine: every rank finalized and the launcher returned 0"},
    {EXIT_ERROR,
     "the command could not do its work, and said why in one line; isolate --check: the "
     "replay differs from the recording"},
    {EXIT_USAGE, "the command line is wrong"},
    {EXIT_RANK_FAILED, "a rank died of a signal, called MPI_Abort, ended before MPI_Finalize, or "
                       "could not be continued from its image"},
    {EXIT_HUNG, "no rank got on for the time given with --hang-after"},
    {EXIT_LAUNCHER,
     "the launcher was killed or returned a status other than 0, and no rank failed"},
    {EXIT_NO_RANK, "the launcher ended and no MPI rank had come under control"},
    {EXIT_INTERRUPTED, "interrupted by Ctrl-C, SIGTERM or SIGHUP; the session stays valid"},
    {0, NULL},
};

const struct setting_row setting_rows[] = {
    {"DBG3_LOG", "warn", "diagnostics on standard error: a level (none, warn, info, debug) or "
                         "module:level,... such as coord:debug"},
    {"DBG3_STORM", "unset", "for tests: CALLS or CALLS:SEED makes each rank ask for epochs at "
                            "random calls of its own, in batch and restart"},
    {"DBG3_FAULT", "unset", "for tests: POINT[:RANK[:NTH[:stop]]] kills or stops a process of the "
                            "job at a named point of a checkpoint; see: dbg3 help faults"},
    {"NO_COLOR", "unset", "if set, no colour on terminals"},
    {NULL, NULL, NULL},
};
