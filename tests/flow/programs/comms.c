/*
 * comms: communicators and groups made in every way, Cartesian topologies, attributes, names, error
 * handlers and inquiry calls; some live across rounds, so that a restart must rebuild them.
 * Ranks: 4 or more.
 */
#include "check.h"

/* The sum of world ranks over `comm`: a collective that only a right communicator gets right. */
static int members_sum(MPI_Comm comm)
{
    int sum;

    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, comm);
    return sum;
}

static void case_dup(int round)
{
    MPI_Comm a, b;
    int result, value = rank, got;
    MPI_Request reqs[2];

    MPI_Comm_dup(MPI_COMM_WORLD, &a);
    MPI_Comm_dup(a, &b);
    MPI_Comm_compare(a, b, &result);
    CHECK(result == MPI_CONGRUENT);
    MPI_Comm_compare(a, a, &result);
    CHECK(result == MPI_IDENT);
    /* The same envelope in two communicators: no message crosses over. */
    MPI_Irecv(&got, 1, MPI_INT, neighbour(-1), 1, b, &reqs[0]);
    MPI_Isend(&value, 1, MPI_INT, neighbour(1), 1, a, &reqs[1]);
    int other = rank + 1000, from_a;
    MPI_Send(&other, 1, MPI_INT, neighbour(1), 1, b);
    MPI_Recv(&from_a, 1, MPI_INT, neighbour(-1), 1, a, MPI_STATUS_IGNORE);
    MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
    CHECK(got == neighbour(-1) + 1000 && from_a == neighbour(-1));
    MPI_Comm_free(&a);
    CHECK(members_sum(b) == size * (size - 1) / 2);
    MPI_Comm_free(&b);
}

static void case_split(int round)
{
    MPI_Comm comm;
    int color = rank == 1 ? MPI_UNDEFINED : rank % 2, comm_rank;

    MPI_Comm_split(MPI_COMM_WORLD, color, size - rank, &comm);
    CHECK((comm == MPI_COMM_NULL) == (rank == 1));
    if (comm != MPI_COMM_NULL) {
        MPI_Comm_rank(comm, &comm_rank);
        CHECK(comm_rank == (size - 1 - rank) / 2);
        MPI_Comm_free(&comm);
    }
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &comm);
    CHECK(comm != MPI_COMM_NULL);
    MPI_Comm_free(&comm);
}

static void check_group(MPI_Group group, int n, const int *world_ranks)
{
    MPI_Group world;
    int got[8], all[8] = {0, 1, 2, 3, 4, 5, 6, 7}, group_size;

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_size(group, &group_size);
    CHECK(group_size == n);
    if (n > 0)
        MPI_Group_translate_ranks(group, n, all, world, got);
    for (int i = 0; i < n; i++)
        CHECK(got[i] == world_ranks[i]);
    MPI_Group_free(&world);
    CHECK(world == MPI_GROUP_NULL);
}

static void case_groups(int round)
{
    MPI_Group world, a, b, c;
    int range[1][3] = {{3, 0, -1}}, result, group_rank;

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_incl(world, 3, (int[]){2, 0, 1}, &a);
    check_group(a, 3, (int[]){2, 0, 1});
    MPI_Group_rank(a, &group_rank);
    CHECK(rank != 0 || group_rank == 1);
    CHECK(rank != 3 || group_rank == MPI_UNDEFINED);
    MPI_Group_incl(world, 2, (int[]){1, 3}, &b);
    MPI_Group_union(a, b, &c);
    check_group(c, 4, (int[]){2, 0, 1, 3});
    MPI_Group_free(&c);
    MPI_Group_intersection(a, b, &c);
    check_group(c, 1, (int[]){1});
    MPI_Group_free(&c);
    MPI_Group_difference(a, b, &c);
    check_group(c, 2, (int[]){2, 0});
    MPI_Group_compare(a, c, &result);
    CHECK(result == MPI_UNEQUAL);
    MPI_Group_free(&c);
    MPI_Group_excl(a, 1, (int[]){0}, &c);
    check_group(c, 2, (int[]){0, 1});
    MPI_Group_free(&c);
    MPI_Group_range_incl(world, 1, range, &c);
    check_group(c, 4, (int[]){3, 2, 1, 0});
    MPI_Group_free(&c);
    MPI_Group_range_excl(a, 1, (int[][3]){{1, 2, 1}}, &c);
    check_group(c, 1, (int[]){2});
    MPI_Group_free(&c);
    check_group(MPI_GROUP_EMPTY, 0, NULL);
    MPI_Group_free(&a);
    MPI_Group_free(&b);
    MPI_Group_free(&world);
}

static void case_create(int round)
{
    MPI_Group world, group;
    MPI_Comm comm;

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_incl(world, 3, (int[]){3, 1, 0}, &group);
    MPI_Comm_create(MPI_COMM_WORLD, group, &comm);
    CHECK((comm == MPI_COMM_NULL) == (rank == 2 || rank > 3));
    if (comm != MPI_COMM_NULL) {
        CHECK(members_sum(comm) == 4);
        MPI_Comm_free(&comm);
    }
    if (rank == 0 || rank == 1 || rank == 3) {
        MPI_Comm_create_group(MPI_COMM_WORLD, group, 5, &comm);
        CHECK(members_sum(comm) == 4);
        MPI_Comm_free(&comm);
    }
    MPI_Group_free(&group);
    MPI_Group_free(&world);
}

static void case_cart(int round)
{
    int dims[2] = {0, 2}, periods[2] = {1, 0}, coords[2], got_dims[2], got_periods[2];
    int up, down, left, right, cart_rank, kind, ndims, back, keep[2] = {1, 0}, line_size;
    MPI_Comm cart, line;

    if (size % 2 != 0)
        return;
    MPI_Dims_create(size, 2, dims);
    CHECK(dims[0] == size / 2 && dims[1] == 2);
    MPI_Cart_create(MPI_COMM_WORLD, 2, dims, periods, 1, &cart);
    MPI_Topo_test(cart, &kind);
    MPI_Cartdim_get(cart, &ndims);
    CHECK(kind == MPI_CART && ndims == 2);
    MPI_Comm_rank(cart, &cart_rank);
    MPI_Cart_get(cart, 2, got_dims, got_periods, coords);
    CHECK(got_dims[0] == dims[0] && got_dims[1] == 2 && got_periods[0] && !got_periods[1]);
    MPI_Cart_rank(cart, coords, &back);
    CHECK(back == cart_rank);
    MPI_Cart_coords(cart, cart_rank, 2, got_dims);
    CHECK(got_dims[0] == coords[0] && got_dims[1] == coords[1]);
    MPI_Cart_shift(cart, 0, 1, &up, &down);
    MPI_Cart_shift(cart, 1, 1, &left, &right);
    CHECK(down != MPI_PROC_NULL && (left == MPI_PROC_NULL) == (coords[1] == 0));
    int value = coords[0], got = -1;
    MPI_Sendrecv(&value, 1, MPI_INT, down, 2, &got, 1, MPI_INT, up, 2, cart, MPI_STATUS_IGNORE);
    CHECK(got == (coords[0] + dims[0] - 1) % dims[0]);
    MPI_Sendrecv(&coords[1], 1, MPI_INT, right, 3, &value, 1, MPI_INT, left, 3, cart,
                 MPI_STATUS_IGNORE);
    CHECK(coords[1] == 0 || value == 0);
    MPI_Cart_sub(cart, keep, &line);
    MPI_Comm_size(line, &line_size);
    CHECK(line_size == dims[0]);
    MPI_Comm_free(&line);
    MPI_Comm_free(&cart);
}

static void case_attributes(int round)
{
    MPI_Comm comm, twin;
    int key, null_key, found;
    long *value, stored = 4711 + round;

    MPI_Comm_create_keyval(MPI_COMM_DUP_FN, MPI_COMM_NULL_DELETE_FN, &key, NULL);
    MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, MPI_COMM_NULL_DELETE_FN, &null_key, NULL);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_get_attr(comm, key, &value, &found);
    CHECK(!found);
    MPI_Comm_set_attr(comm, key, &stored);
    MPI_Comm_set_attr(comm, null_key, &stored);
    MPI_Comm_dup(comm, &twin);
    MPI_Comm_get_attr(twin, key, &value, &found);
    CHECK(found && value == &stored && *value == 4711 + round);
    MPI_Comm_get_attr(twin, null_key, &value, &found);
    CHECK(!found);
    MPI_Comm_delete_attr(comm, key);
    MPI_Comm_get_attr(comm, key, &value, &found);
    CHECK(!found);
    MPI_Comm_free(&twin);
    MPI_Comm_free(&comm);
    MPI_Comm_free_keyval(&null_key);
    MPI_Comm_free_keyval(&key);
}

/* Classes and codes keep their numbers, also what came into the place of a deleted one. */
static void case_error_codes(int round)
{
    static int kept, code;
    char text[MPI_MAX_ERROR_STRING];
    int gone, class, length, *last, found;
    if (!kept) {
        MPI_Add_error_class(&gone);
        MPI_Add_error_class(&kept);
        MPIX_Delete_error_class(gone);
        MPI_Add_error_class(&class);
        MPI_Add_error_code(class, &code);
        MPI_Add_error_string(code, "a reason of our own");
    }
    MPI_Error_class(code, &class);
    CHECK(class != kept && class >= MPI_ERR_LASTCODE);
    MPI_Error_string(code, text, &length);
    CHECK(!strcmp(text, "a reason of our own"));
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_LASTUSEDCODE, &last, &found);
    CHECK(found && *last == kept);
}

/* What is wrong is told by the kind of the object that is none; NULL for an output: an argument. */
static void case_null(int round)
{
    MPI_Errhandler handler;
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Status status;
    void *value;
    int found, token;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    CHECK(check_class(MPI_Win_get_errhandler(MPI_WIN_NULL, &handler)) == MPI_ERR_WIN);
    CHECK(check_class(MPI_Win_set_errhandler(MPI_WIN_NULL, MPI_ERRORS_RETURN)) == MPI_ERR_WIN);
    CHECK(check_class(MPI_Win_call_errhandler(MPI_WIN_NULL, MPI_ERR_ARG)) == MPI_ERR_WIN);
    CHECK(check_class(MPI_Win_get_attr(MPI_WIN_NULL, MPI_WIN_BASE, &value, &found)) == MPI_ERR_WIN);
    CHECK(check_class(MPI_Comm_get_errhandler(MPI_COMM_NULL, &handler)) == MPI_ERR_COMM);
    CHECK(check_class(MPI_Session_get_errhandler(MPI_SESSION_NULL, &handler)) == MPI_ERR_SESSION);
    CHECK(check_class(MPI_Comm_rank(MPI_COMM_WORLD, NULL)) == MPI_ERR_ARG);
    CHECK(check_class(MPI_Recv(&token, 1, MPI_INT, 0, 9, MPI_COMM_WORLD, NULL)) == MPI_ERR_ARG);
    CHECK(check_class(MPI_Isend(&token, 1, MPI_INT, 0, 9, MPI_COMM_WORLD, NULL)) == MPI_ERR_ARG);
    CHECK(check_class(MPI_Iprobe(0, 9, MPI_COMM_WORLD, NULL, &status)) == MPI_ERR_ARG);
    CHECK(check_class(MPI_Wait(NULL, &status)) == MPI_ERR_ARG);
    CHECK(check_class(MPI_Test(&request, NULL, &status)) == MPI_ERR_ARG);
    CHECK(check_class(MPI_Get_count(&status, MPI_INT, NULL)) == MPI_ERR_ARG);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
}

/* A keyval is for one kind of object. */
static void case_keyval_kinds(int round)
{
    int key, value = 1;
    MPI_Datatype type;
    MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, MPI_COMM_NULL_DELETE_FN, &key, NULL);
    MPI_Type_contiguous(2, MPI_INT, &type);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    CHECK(MPI_Type_set_attr(type, key, &value) != MPI_SUCCESS);
    CHECK(MPI_Type_free_keyval(&key) != MPI_SUCCESS);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    MPI_Comm_free_keyval(&key);
    MPI_Type_free(&type);
}

static void case_predefined_attributes(int round)
{
    int *value, found;

    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &value, &found);
    CHECK(found && *value >= 32767);
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_WTIME_IS_GLOBAL, &value, &found);
    CHECK(!found || *value == 0 || *value == 1);
}

static void case_names(int round)
{
    char name[MPI_MAX_OBJECT_NAME], processor[MPI_MAX_PROCESSOR_NAME];
    MPI_Comm comm;
    int len;

    MPI_Comm_get_name(MPI_COMM_WORLD, name, &len);
    CHECK(strcmp(name, "MPI_COMM_WORLD") == 0 && len == 14);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_name(comm, "coupler");
    MPI_Comm_get_name(comm, name, &len);
    CHECK(strcmp(name, "coupler") == 0 && len == 7);
    MPI_Comm_free(&comm);
    MPI_Get_processor_name(processor, &len);
    CHECK(len > 0 && processor[len] == '\0');
}

static int handled, handled_class;

static void note_error(MPI_Comm *comm, int *code, ...)
{
    CHECK(*comm != MPI_COMM_NULL);
    MPI_Error_class(*code, &handled_class);
    handled++;
}

static void case_error_handlers(int round)
{
    MPI_Errhandler handler, got;
    MPI_Comm comm;
    char text[MPI_MAX_ERROR_STRING];
    int code, class, len, value = 0;

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    code = MPI_Send(&value, 1, MPI_INT, size + 5, 1, comm);
    MPI_Error_class(code, &class);
    CHECK(class == MPI_ERR_RANK);
    MPI_Error_string(code, text, &len);
    CHECK(len > 0);
    MPI_Comm_create_errhandler(note_error, &handler);
    MPI_Comm_set_errhandler(comm, handler);
    MPI_Errhandler_free(&handler);
    handled = 0;
    code = MPI_Send(&value, -1, MPI_INT, 0, 1, comm);
    CHECK(handled == 1 && handled_class == MPI_ERR_COUNT && code != MPI_SUCCESS);
    MPI_Comm_call_errhandler(comm, MPI_ERR_OTHER);
    CHECK(handled == 2 && handled_class == MPI_ERR_OTHER);
    MPI_Comm_get_errhandler(comm, &got);
    CHECK(got != MPI_ERRORS_RETURN && got != MPI_ERRHANDLER_NULL);
    MPI_Errhandler_free(&got);
    MPI_Comm_free(&comm);
}

/* A message longer than its buffer: an error that is returned, with the envelope filled in. */
static void case_truncation(int round)
{
    MPI_Comm comm;
    MPI_Request req;
    int out[4] = {1, 2, 3, 4}, in[2] = {0, 0}, code, class;

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    MPI_Isend(out, 4, MPI_INT, neighbour(1), 6, comm, &req);
    code = MPI_Recv(in, 2, MPI_INT, neighbour(-1), 6, comm, MPI_STATUS_IGNORE);
    MPI_Error_class(code, &class);
    CHECK(class == MPI_ERR_TRUNCATE);
    MPI_Wait(&req, MPI_STATUS_IGNORE);
    MPI_Comm_free(&comm);
}

/* Collectives that MPI turns down for their arguments: on one rank only, which no epoch may wait
 * for; with a new handle, which is null then; with aliases, which MPI sees in equal arrays only. */
static void case_turned_down(int round)
{
    int dims[2] = {size, size}, periods[2] = {0, 0}, class, code = MPI_SUCCESS;
    int counts[16] = {0}, displs[16] = {0}, data[16] = {0};
    MPI_Datatype types[16], row;
    MPI_Comm comm, grid;

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    MPI_Type_contiguous(1, MPI_INT, &row);
    MPI_Type_commit(&row);
    if (rank == 0)
        code = MPI_Gather(data, 1, MPI_INT, data, 1, MPI_INT, 0, comm);
    CHECK((code != MPI_SUCCESS) == (rank == 0));
    memset(&grid, 0x55, sizeof(grid));
    MPI_Error_class(MPI_Cart_create(comm, 2, dims, periods, 0, &grid), &class);
    CHECK(size == 1 || (class == MPI_ERR_ARG && grid == MPI_COMM_NULL));
    for (int i = 0; i < size; i++) {
        types[i] = row;
        counts[i] = 1;
        displs[i] = (int)sizeof(int) * i;
    }
    code = MPI_Alltoallw(data, counts, displs, types, data, counts, displs, types, comm);
    MPI_Error_class(code, &class);
    CHECK(class == MPI_ERR_BUFFER);
    MPI_Type_free(&row);
    MPI_Comm_free(&comm);
}

static void case_inquiry(int round)
{
    int version, subversion, len, flag, level;
    char library[MPI_MAX_LIBRARY_VERSION_STRING];
    double before = MPI_Wtime();

    MPI_Get_version(&version, &subversion);
    CHECK(version >= 3);
    MPI_Get_library_version(library, &len);
    CHECK(len > 0 && (int)strlen(library) == len);
    MPI_Initialized(&flag);
    CHECK(flag);
    MPI_Finalized(&flag);
    CHECK(!flag);
    MPI_Query_thread(&level);
    CHECK(level >= MPI_THREAD_SINGLE && level <= MPI_THREAD_MULTIPLE);
    MPI_Is_thread_main(&flag);
    CHECK(flag);
    CHECK(MPI_Wtick() > 0.0 && MPI_Wtick() < 1.0);
    CHECK(MPI_Wtime() >= before);
    MPI_Pcontrol(1);
    CHECK(MPI_Comm_c2f(MPI_COMM_WORLD) != 0);
    CHECK(MPI_Comm_f2c(MPI_Comm_c2f(MPI_COMM_WORLD)) == MPI_COMM_WORLD);
    MPI_Comm_test_inter(MPI_COMM_WORLD, &flag);
    CHECK(!flag);
}

/* Made in the first round, used in every later one, freed never: a restart finds it alive. */
static void case_long_lived(int round)
{
    static MPI_Comm odd_even, grid = MPI_COMM_NULL;
    static int key, stored = 99;
    char name[MPI_MAX_OBJECT_NAME];
    int *value, found, len, got = -1, grid_rank, grid_size, left, right, periodic = 1;

    if (grid == MPI_COMM_NULL) {
        MPI_Comm_create_keyval(MPI_COMM_DUP_FN, MPI_COMM_NULL_DELETE_FN, &key, NULL);
        MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &odd_even);
        MPI_Comm_set_name(odd_even, rank % 2 ? "odd" : "even");
        MPI_Comm_size(odd_even, &grid_size);
        MPI_Cart_create(odd_even, 1, &grid_size, &periodic, 0, &grid);
        MPI_Comm_set_attr(grid, key, &stored);
    }
    MPI_Comm_get_name(odd_even, name, &len);
    CHECK(strcmp(name, rank % 2 ? "odd" : "even") == 0);
    MPI_Comm_get_attr(grid, key, &value, &found);
    CHECK(found && value == &stored);
    MPI_Cart_shift(grid, 0, 1, &left, &right);
    MPI_Comm_rank(grid, &grid_rank);
    MPI_Comm_size(grid, &grid_size);
    CHECK(right == (grid_rank + 1) % grid_size);
    MPI_Sendrecv(&rank, 1, MPI_INT, right, 4, &got, 1, MPI_INT, left, 4, grid, MPI_STATUS_IGNORE);
    CHECK(got == (rank + 2 * grid_size - 2) % (2 * grid_size) || size % 2 != 0);
}

static const struct check_case cases[] = {
    {"dup", case_dup},
    {"split", case_split},
    {"groups", case_groups},
    {"create", case_create},
    {"cart", case_cart},
    {"attributes", case_attributes},
    {"error_codes", case_error_codes},
    {"null", case_null},
    {"keyval_kinds", case_keyval_kinds},
    {"predefined_attributes", case_predefined_attributes},
    {"names", case_names},
    {"error_handlers", case_error_handlers},
    {"truncation", case_truncation},
    {"turned_down", case_turned_down},
    {"inquiry", case_inquiry},
    {"long_lived", case_long_lived},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "comms", cases, 20);
}
