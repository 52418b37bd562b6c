/*
 * ports: names of other jobs, and the errors of what this MPI library cannot do: MPICH 4.0 over UCX
 * opens no ports, so it spawns and connects nothing.
 */
#include "check.h"

static void name_of(char *name, int from)
{
    snprintf(name, 32, "dbg3-ports-%d", from);
}

/* A name that is there through all rounds, and one of each round. */
static void case_names(int round)
{
    char name[32], port[MPI_MAX_PORT_NAME], wanted[MPI_MAX_PORT_NAME];
    name_of(name, rank);
    snprintf(wanted, sizeof(wanted), "port-%d", rank);
    if (round == 0)
        CHECK(MPI_Publish_name(name, MPI_INFO_NULL, wanted) == MPI_SUCCESS);
    MPI_Barrier(MPI_COMM_WORLD);
    name_of(name, neighbour(1));
    snprintf(wanted, sizeof(wanted), "port-%d", neighbour(1));
    CHECK(MPI_Lookup_name(name, MPI_INFO_NULL, port) == MPI_SUCCESS && !strcmp(port, wanted));
    name_of(name, 1000 + rank);
    CHECK(MPI_Publish_name(name, MPI_INFO_NULL, "mine") == MPI_SUCCESS);
    CHECK(MPI_Lookup_name(name, MPI_INFO_NULL, port) == MPI_SUCCESS && !strcmp(port, "mine"));
    CHECK(MPI_Unpublish_name(name, MPI_INFO_NULL, "mine") == MPI_SUCCESS);
}

static void case_errors(int round)
{
    MPI_Comm parent, other = MPI_COMM_NULL;
    char port[MPI_MAX_PORT_NAME], text[MPI_MAX_ERROR_STRING];
    char *commands[2] = {"true", "false"};
    int rc, n, errors[2], more[5], counts[2] = {2, 3};
    MPI_Info infos[2] = {MPI_INFO_NULL, MPI_INFO_NULL};
    MPI_Comm_get_parent(&parent);
    CHECK(parent == MPI_COMM_NULL);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    rc = MPI_Open_port(MPI_INFO_NULL, port);
    if (rc != MPI_SUCCESS) {
        CHECK(MPI_Error_string(rc, text, &n) == MPI_SUCCESS && n > 0);
        CHECK(MPI_Comm_spawn("true", MPI_ARGV_NULL, 2, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &other,
                             errors) != MPI_SUCCESS);
        CHECK(MPI_Comm_spawn_multiple(2, commands, MPI_ARGVS_NULL, counts, infos, 0,
                                      MPI_COMM_WORLD, &other, more) != MPI_SUCCESS);
    } else {
        MPI_Close_port(port);
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
}

static const struct check_case cases[] = {
    {"names", case_names}, {"errors", case_errors}, {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "ports", cases, 10);
}
