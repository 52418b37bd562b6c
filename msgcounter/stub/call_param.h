/*
 * call_param.h - parameters of a call as its row describes them: for the interpreter's own files
 */
#ifndef DBG3_STUB_CALL_PARAM_H
#define DBG3_STUB_CALL_PARAM_H

#include "msgcounter/stub/call.h"

/* Elements of an array parameter; 1 for scalars. Lengths that the call writes are known
 * afterwards. */
int64_t param_length(const struct call_info *info, unsigned i, const uint64_t *v);

/* Whether a success has written output i (its pointer is not NULL and its condition holds). */
bool param_written(const struct call_info *info, unsigned i, const uint64_t *v);

/* Whether this rank is the root of a rooted collective; true for all others. */
bool call_is_root(const struct call_info *info, const uint64_t *v);

/* Bytes of a handle in C: MPI_File is a pointer. */
static inline unsigned handle_bytes(const struct param_info *p)
{
    return p->handle == HANDLE_FILE ? 8 : 4;
}

int64_t handle_load(const struct param_info *p, const void *at);

/* Makes the real call of a request-making collective, with arguments as the application gave them
 * but for the communicator, whose handle it may have freed: `comm` is the real one. `arrays` gets
 * what was handed down in place of arrays of handles: from stub_alloc, to be kept until the
 * request ends. [crosses] */
int call_make_request(enum call call, const uint64_t *v, uint64_t comm, uint64_t *real,
                      void **arrays);

/* --- call_record.c --- */

/* Starts what goes on when it has returned: its request keeps the arguments (icoll.h). */
static inline bool call_starts(const struct call_info *info)
{
    return info->class == CLASS_ICOLL || (info->class == CLASS_IO && info->request >= 0);
}

/* What recording must know of a call from before it is made. */
struct record_before {
    int64_t position;                  /* of MPI_Pack and MPI_Unpack */
    uint64_t digest[CALL_PARAMS_MAX];  /* of input buffers */
    uint64_t bytes[CALL_PARAMS_MAX];
};

/* Digests what a call is about to send. Does nothing in live mode. */
void record_inputs(struct record_before *b, const struct call_info *info, const uint64_t *v);

/* Writes the event of a call that was made. */
void record_outputs(enum call call, const struct call_info *info, const uint64_t *v,
                    const struct record_before *b, const struct made *made, int rc);

/* Answers a call from its event. Returns the recorded code. */
int replay_outputs(enum call call, const struct call_info *info, const uint64_t *v);

#endif
