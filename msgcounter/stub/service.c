/*
 * service.c - what the lower half may ask of the stub
 */
#include "msgcounter/stub/call.h"
#include "msgcounter/stub/clock.h"
#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/drain.h"
#include "msgcounter/stub/file.h"
#include "msgcounter/stub/no_park.h"
#include "msgcounter/stub/order.h"
#include "msgcounter/stub/pid.h"
#include "msgcounter/stub/rebuild.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/schedule.h"
#include "msgcounter/stub/signal.h"
#include "msgcounter/stub/signal_place.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/system.h"

static void where(int32_t *call, uint64_t *site, uint64_t *event)
{
    *call = call_where.call;
    *site = call_where.site;
    *event = record_event();
}

static void position(uint64_t *segment, uint64_t *offset, uint64_t *event)
{
    struct log_position at = log_writer_position(&record_writer);
    *segment = at.segment;
    *offset = at.offset;
    *event = at.event;
}

static void before_save(void)
{
    record_flush();
    signal_place_before_save();
    coll_forget_freed();
    file_before_save();
    count_before_save();
}

static void after_save(int restored)
{
    count_after_save(restored);
    if (!restored)
        order_after_epoch();
    bool to_end = stub_gate.finalized && replaying(); /* of the program, behind MPI_Finalize */
    if (restored && (stub_gate.mpi_level != (uint64_t)-1 || to_end)) {
        record_attach();
        schedule_attach();
    }
}

static int adopt_threads(void)
{
    if (!recording() || schedule_on)
        return 0;
    schedule_attach();
    return schedule_on;
}

struct gate_stub stub_gate = {
    .version = GATE_VERSION,
    .ncalls = CALL_COUNT,
    .mpi_level = (uint64_t)-1,
    .collectives = coll_list,
    .unable = rebuild_unable,
    .sent = count_sent,
    .drain_step = drain_step,
    .rebuild = rebuild_all,
    .before_save = before_save,
    .after_save = after_save,
    .position = position,
    .where = where,
    .renumber = pid_renumber,
    .thread_resumes = system_thread_resumes,
    .adopt_threads = adopt_threads,
    .signal_logged = signal_logged,
    .crossing = gate_cross_returned,
    .before_call = system_before_call,
    .names_itself = {signal_self_named, signal_self_sent},
    .taken = record_taken,
    .comms = &comm_offsets,
};

/* Before stub_start, which shows stub_gate to the lower half. */
__attribute__((constructor(101))) static void fill_vdso(void)
{
    for (int i = 0; i < GATE_VDSO_COUNT; i++) {
        stub_gate.vdso[i] = clock_hooks[i];
        stub_gate.vdso_live[i] = clock_live_hooks[i];
    }
    stub_gate.no_park[0] = (uint64_t)__start_no_park;
    stub_gate.no_park[1] = (uint64_t)__stop_no_park;
}
