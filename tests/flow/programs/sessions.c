/*
 * sessions: a program without MPI_Init: a session that lives through all rounds, another one in
 * each round, and communicators made of their process sets.
 *
 * Usage: sessions [ROUNDS].
 */
#include "check.h"

static MPI_Session session;
static MPI_Comm all;

static MPI_Session open_session(const char *level)
{
    MPI_Session s;
    MPI_Info info, got;
    char value[64] = "";
    int flag;
    MPI_Info_create(&info);
    MPI_Info_set(info, "thread_level", level);
    CHECK(MPI_Session_init(info, MPI_ERRORS_RETURN, &s) == MPI_SUCCESS);
    MPI_Info_free(&info);
    MPI_Session_get_info(s, &got);
    MPI_Info_get(got, "thread_level", sizeof(value) - 1, value, &flag);
    CHECK(flag && !strncmp(value, "MPI_THREAD_", 11));
    MPI_Info_free(&got);
    return s;
}

static MPI_Comm comm_of(MPI_Session s, const char *pset, const char *tag)
{
    MPI_Group group;
    MPI_Comm comm;
    CHECK(MPI_Group_from_session_pset(s, pset, &group) == MPI_SUCCESS);
    CHECK(MPI_Comm_create_from_group(group, tag, MPI_INFO_NULL, MPI_ERRORS_RETURN, &comm) ==
          MPI_SUCCESS);
    MPI_Group_free(&group);
    return comm;
}

static void check_psets(MPI_Session s)
{
    int n, length = 0;
    char name[MPI_MAX_PSET_NAME_LEN];
    CHECK(MPI_Session_get_num_psets(s, MPI_INFO_NULL, &n) == MPI_SUCCESS && n >= 2);
    MPI_Session_get_nth_pset(s, MPI_INFO_NULL, 0, &length, NULL);
    CHECK(length == (int)strlen("mpi://WORLD") + 1);
    MPI_Session_get_nth_pset(s, MPI_INFO_NULL, 0, &length, name);
    CHECK(!strcmp(name, "mpi://WORLD"));
}

/* A library with a session of its own: the two halves of the ranks talk to each other. */
static void use_library(int round)
{
    MPI_Session mine = open_session("MPI_THREAD_SINGLE");
    MPI_Comm self = comm_of(mine, "mpi://SELF", "self"), world, inter;
    MPI_Group whole, half, other;
    int n, got = -1, even = rank % 2 == 0, halves[2][3] = {{1, size - 1, 2}, {0, size - 1, 2}};
    MPI_Comm_size(self, &n);
    CHECK(n == 1);
    MPI_Group_from_session_pset(mine, "mpi://WORLD", &whole);
    MPI_Group_range_incl(whole, 1, &halves[even], &half);
    MPI_Group_range_incl(whole, 1, &halves[!even], &other);
    MPI_Comm_create_from_group(half, "half", MPI_INFO_NULL, MPI_ERRORS_RETURN, &world);
    MPI_Allreduce(&round, &got, 1, MPI_INT, MPI_SUM, world);
    MPI_Comm_size(world, &n);
    CHECK(got == n * round);
    CHECK(MPI_Intercomm_create_from_groups(half, 0, other, 0, "inter", MPI_INFO_NULL,
                                           MPI_ERRORS_RETURN, &inter) == MPI_SUCCESS);
    n = rank + round;
    MPI_Allreduce(&n, &got, 1, MPI_INT, MPI_MAX, inter);
    int last = size - 1; /* the highest of the other half */
    CHECK(got == round + (last % 2 == rank % 2 ? last - 1 : last));
    MPI_Comm_free(&inter);
    MPI_Comm_free(&world);
    MPI_Comm_free(&self);
    MPI_Group_free(&whole);
    MPI_Group_free(&half);
    MPI_Group_free(&other);
    CHECK(MPI_Session_finalize(&mine) == MPI_SUCCESS && mine == MPI_SESSION_NULL);
}

static bool more(const char *rounds, int done)
{
    int go;
    if (check_counted(rounds))
        return done < atoi(rounds);
    if (rank == 0)
        go = access(rounds, F_OK) != 0;
    MPI_Bcast(&go, 1, MPI_INT, 0, all);
    return go;
}

int main(int argc, char **argv)
{
    const char *rounds = argc > 1 ? argv[1] : "20";
    int flag, token;

    session = open_session("MPI_THREAD_MULTIPLE");
    MPI_Initialized(&flag);
    CHECK(!flag);
    all = comm_of(session, "mpi://WORLD", "all");
    MPI_Comm_rank(all, &rank);
    MPI_Comm_size(all, &size);
    check_psets(session);
    for (int round = 0; more(rounds, round); round++) {
        use_library(round);
        token = rank + round;
        MPI_Sendrecv_replace(&token, 1, MPI_INT, neighbour(1), 1, neighbour(-1), 1, all,
                             MPI_STATUS_IGNORE);
        CHECK(token == neighbour(-1) + round);
    }
    MPI_Barrier(all);
    if (rank == 0)
        printf("OK sessions\n");
    MPI_Comm_free(&all);
    CHECK(MPI_Session_finalize(&session) == MPI_SUCCESS);
    MPI_Initialized(&flag);
    CHECK(!flag);
    return 0;
}
