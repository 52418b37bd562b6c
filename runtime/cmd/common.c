/*
 * common.c - options that several commands have
 */
#include "runtime/cmd/cmd.h"

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
    struct common *common = state->input;
    switch (key) {
    case 's':
        common->session = arg;
        return 0;
    case 'j':
        common->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

#define SESSION_OPTION                                                                             \
    {"session", 's', "DIR", 0, "session folder (default: ./" SESSION_LATEST ")", 10}

static const struct argp_option session_options[] = {SESSION_OPTION, {0}};
static const struct argp_option both_options[] = {
    SESSION_OPTION, {"json", 'j', NULL, 0, "print facts as JSON", 10}, {0}};

const struct argp common_session_argp = {session_options, parse_common, NULL, NULL,
                                         NULL,            NULL,         NULL};
const struct argp common_argp = {both_options, parse_common, NULL, NULL, NULL, NULL, NULL};

void cmd_parse(const struct argp *argp, int argc, char **argv, unsigned flags, void *input)
{
    argp_parse(argp, argc, argv, flags, NULL, input);
}
