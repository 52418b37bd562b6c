/*
 * main.c - the dbg3 command: table of commands and dispatch
 */
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/gdbserver.h"
#include "runtime/cmd/cmd.h"

const struct command commands[] = {
    {"batch", "run an MPI job with coarse checkpoints and counters", &batch_argp, cmd_batch},
    {"status", "show what the job of a session does, or how it ended", &status_argp, cmd_status},
    {"list", "list phases, epochs and fine checkpoints of a session", &list_argp, cmd_list},
    {"checkpoint", "ask the running job for an epoch now", &checkpoint_argp, cmd_checkpoint},
    {"restart", "continue the job from an epoch", &restart_argp, cmd_restart},
    {"refine", "re-run from an epoch, recording messages and fine checkpoints", &refine_argp,
     cmd_refine},
    {"isolate", "run one recorded rank alone, under GDB", &isolate_argp, cmd_isolate},
    {"pack", "pack one recorded rank into a file for another machine", &pack_argp, cmd_pack},
    {"messages", "list the recorded messages of a rank", &messages_argp, cmd_messages},
    {"image", "describe a checkpoint image", &image_argp, cmd_image},
    {"core", "write a whole ELF core file from a chain of images", &core_argp, cmd_core},
    {"gdbserver", "serve a process to GDB by its remote protocol", &gdbserver_argp, gdbserver_main},
    {"help", "explain a command, settings, exit codes", &help_argp, cmd_help},
    {NULL, NULL, NULL, NULL},
};

const struct command *command_find(const char *name)
{
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

static int usage(FILE *out, int code)
{
    fprintf(out, "usage: dbg3 COMMAND [OPTION...]\n\n");
    for (const struct command *c = commands; c->name; c++)
        fprintf(out, "  %-11s %s\n", c->name, c->help);
    fprintf(out, "\nThe three phases:\n"
                 "  dbg3 batch --every 1h -- mpiexec -n 512 ./app in.nml\n"
                 "  dbg3 refine --every-n-msgs 10\n"
                 "  dbg3 isolate --rank 417 under gdb\n"
                 "\nMore: dbg3 help COMMAND, dbg3 help settings, dbg3 help exit-codes\n");
    return code;
}

int main(int argc, char **argv)
{
    char name[64];
    argp_err_exit_status = EXIT_USAGE;
    if (argc < 2)
        return usage(stderr, EXIT_USAGE);
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("dbg3 " DBG3_VERSION "\n");
        return EXIT_DONE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return usage(stdout, EXIT_DONE);
    const struct command *command = command_find(argv[1]);
    if (!command) {
        fprintf(stderr, "dbg3: no command '%s'; see: dbg3 help\n", argv[1]);
        return EXIT_USAGE;
    }
    snprintf(name, sizeof name, "dbg3 %s", command->name);
    argv[1] = name;
    return command->run(argc - 1, argv + 1);
}
