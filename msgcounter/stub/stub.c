/*
 * stub.c - start and end of the stub
 *
 * The stub is loaded by LD_PRELOAD into the upper half, in the place of libmpich.so.12. Its
 * constructor runs before the application's: it looks for the gate, gives the environment back to
 * the application as the user had it, and introduces itself to the lower half. Where there is no
 * gate (a child of the application that inherited the preload) the stub is inert.
 */
#include "msgcounter/stub/stub.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "msgcounter/stub/init.h"
#include "msgcounter/stub/other_mpi.h"
#include "msgcounter/stub/pid.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/signal.h"
#include "runtime/half/sys.h"

bool stub_active;

static bool gate_present(void)
{
    unsigned char resident;
    return sys_call(SYS_mincore, GATE_ADDR, 4096, &resident, 0, 0, 0) == 0 &&
           GATE->magic == GATE_MAGIC;
}

void *stub_next(const char *name, void **known)
{
    void *fn = __atomic_load_n(known, __ATOMIC_RELAXED);
    if (!fn) {
        fn = dlsym(RTLD_NEXT, name);
        if (!fn)
            abort();
        __atomic_store_n(known, fn, __ATOMIC_RELAXED);
    }
    return fn;
}

static void restore_variable(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static void at_exit(int status, void *arg)
{
    if (!stub_active)
        return;
    init_leave(); /* gives the turn up, in a replay, too */
    if (GATE->mode == GATE_REPLAY)
        return;
    record_flush();
    cross(GATE->job_exit, (uint64_t)status);
}

__attribute__((constructor)) static void stub_start(void)
{
    if (!gate_present())
        return;
    if (GATE->version != GATE_VERSION || GATE->size != sizeof(struct gate) ||
        GATE->ncalls != stub_gate.ncalls) {
        fprintf(stderr, "dbg3: libmpich.so.12 of dbg3 and dbg3-lower are of different builds; "
                        "install both again\n");
        _exit(125);
    }
    stub_active = true;
    schedule_show();
    stub_gate.tls_thread = (int64_t)((uint64_t)&stub_thread - fs_base());
    stub_thread_init();
    pid_init();
    GATE->stub = &stub_gate;
    restore_variable("LD_PRELOAD", GATE->user_preload);
    restore_variable("LD_LIBRARY_PATH", GATE->user_library_path);
    stub_signal_init();
    other_mpi_init();
    on_exit(at_exit, NULL);
}
