# msgcounter/: call table and generator, stub, handles, counters, order and payload log

# ---- payload log and layouts

ORDER_OBJS := $(patsubst %,$(BUILD)/msgcounter/log/%.o,order order_file order_dump)
SYSTEM_OBJS := $(patsubst %,$(BUILD)/msgcounter/log/%.o,system_data system_table)
LOG_OBJS := $(patsubst %,$(BUILD)/msgcounter/log/%.o,log log_file log_read log_dump) \
            $(SYSTEM_OBJS) $(ORDER_OBJS)

UNIT_TESTS += $(BUILD)/tests/unit/test_log
$(BUILD)/tests/unit/test_log: $(patsubst %,$(BUILD)/%.o,tests/unit/test_log tests/fuzz/fuzz_log \
                                runtime/base/err) $(LOG_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check jansson)

UNIT_TESTS += $(BUILD)/tests/unit/test_system
$(BUILD)/tests/unit/test_system: $(BUILD)/tests/unit/test_system.o $(SYSTEM_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

FUZZERS += $(BUILD)/tests/fuzz/fuzz_log
$(BUILD)/tests/fuzz/fuzz_log: $(patsubst %,msgcounter/log/%.c,log log_file log_read log_dump) \
                              tests/fuzz/fuzz_log.c runtime/base/err.c
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 -O1 -g -fno-strict-aliasing -fsanitize=fuzzer,address,undefined \
	    -o $@ $^ -ljansson

UNIT_TESTS += $(BUILD)/tests/unit/test_order
$(BUILD)/tests/unit/test_order: $(patsubst %,$(BUILD)/%.o,tests/unit/test_order tests/fuzz/fuzz_order \
                                  runtime/base/err) $(ORDER_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check jansson)

FUZZERS += $(BUILD)/tests/fuzz/fuzz_order
$(BUILD)/tests/fuzz/fuzz_order: $(patsubst %,msgcounter/log/%.c,order order_dump) tests/fuzz/fuzz_order.c \
                                runtime/base/err.c
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 -O1 -g -fno-strict-aliasing -fsanitize=fuzzer,address,undefined \
	    -o $@ $^ -ljansson

LAYOUT_OBJS := $(patsubst %,$(BUILD)/msgcounter/layout/layout_%.o,node build copy io)

UNIT_TESTS += $(BUILD)/tests/unit/test_layout $(BUILD)/tests/unit/test_layout_mpi
$(BUILD)/tests/unit/test_layout: $(patsubst %,$(BUILD)/%.o,tests/unit/test_layout \
                                   tests/fuzz/fuzz_layout) $(LAYOUT_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

$(BUILD)/tests/unit/test_layout_mpi: tests/unit/test_layout_mpi.c $(LAYOUT_OBJS)
	@mkdir -p $(@D)
	mpicc $(CPPFLAGS) $(CFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

FUZZERS += $(BUILD)/tests/fuzz/fuzz_layout
$(BUILD)/tests/fuzz/fuzz_layout: $(patsubst %,msgcounter/layout/layout_%.c,node build copy io) \
                                 tests/fuzz/fuzz_layout.c
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 -O1 -g -fno-strict-aliasing -fsanitize=fuzzer,address,undefined \
	    -o $@ $^

# ---- stub: call table, wrappers, and libmpich.so.12 of the upper half

MPI_LIBRARY = $(shell $(CC) -print-file-name=libmpich.so.12)
GEN_FILES  := $(addprefix $(BUILD)/gen/,call_id.h call_hand.h call_table.c wrappers.c lower_table.c call_limits.h symbols.txt)

# gen.py leaves files that would not change alone; the stamp says that it has run.
$(GEN_FILES): $(BUILD)/gen/stamp ;
$(BUILD)/gen/stamp: msgcounter/api/gen.py msgcounter/api/mpi.api msgcounter/api/kinds.api
	@mkdir -p $(@D)
	$(PYTHON) $< --cc '$(CC) $(shell pkg-config --cflags mpich)' --lib $(MPI_LIBRARY) --out $(@D)
	@touch $@

# What a debugger of the application sees of the stub are the MPI functions and their arguments, but no
# lines, so that GDB's step goes over an MPI call as it does over any function of a library. Names within
# it (`exchange`, `count`) are the application's to use: there it says dbg3_exchange. STUB_DEBUG=1 keeps
# everything.
STUB_HIDDEN := $(if $(STUB_DEBUG),,-g0)

# Hidden unless exported; initial-exec TLS, which the crossing reads; no canary, which would be the other half's.
STUB_CFLAGS = $(filter-out -fstack-protector-strong,$(CFLAGS)) -fPIC -fvisibility=hidden \
              -ftls-model=initial-exec -fno-stack-protector $(shell pkg-config --cflags mpich)
STUB_SRCS  := $(wildcard msgcounter/stub/*.c msgcounter/stub/*.S) \
              $(patsubst %,msgcounter/log/%.c,log order system_data system_table) \
              $(wildcard msgcounter/layout/*.c)
STUB_OBJS  := $(patsubst %,$(BUILD)/stub/%.o,$(basename $(STUB_SRCS))) \
              $(BUILD)/stub/gen/call_table.o $(BUILD)/stub/gen/wrappers.o

$(BUILD)/stub/%.o: %.c $(BUILD)/flags | $(GEN_FILES) $(BUILD)/gen/cross_offsets.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(STUB_CFLAGS) $(STUB_HIDDEN) -MMD -MP -c -o $@ $<
$(BUILD)/stub/%.o: %.S $(BUILD)/gen/cross_offsets.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -c -o $@ $<
$(BUILD)/stub/gen/%.o: $(BUILD)/gen/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(STUB_CFLAGS) -MMD -MP -c -o $@ $<

# libmpi.so.12 is the same library under the other name that applications are linked with.
PROGRAMS += $(BUILD)/lib/libmpich.so.12 $(BUILD)/lib/libmpi.so.12
$(BUILD)/lib/libmpich.so.12: $(STUB_OBJS)
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,libmpich.so.12 -Wl,-z,defs -Wl,-z,now -o $@ $^
	$(if $(STUB_DEBUG),,nm $@ | awk '$$2 ~ /^[tbdr]$$/ { print $$3, "dbg3_" $$3 }' | sort -u >$@.names)
	$(if $(STUB_DEBUG),,objcopy --remove-section=.debug_line --redefine-syms=$@.names $@)
$(BUILD)/lib/libmpi.so.12: $(BUILD)/lib/libmpich.so.12
	ln -sf libmpich.so.12 $@

# A gate for ordinary processes, in which the stub is tested: LD_PRELOAD=libgate_direct.so:libmpich.so.12
PROGRAMS += $(BUILD)/lib/libgate_direct.so
$(BUILD)/lib/libgate_direct.so: $(patsubst %,$(BUILD)/direct/%.o,msgcounter/stub/testing/gate_direct \
                                  runtime/half/p2p_loops msgcounter/log/log msgcounter/log/log_file runtime/base/err)
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,libgate_direct.so -Wl,-z,initfirst -Wl,-z,defs -o $@ $^
$(BUILD)/direct/%.o: %.c $(BUILD)/flags | $(GEN_FILES)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(STUB_CFLAGS) -DMPI_LIBRARY='"$(notdir $(MPI_LIBRARY))"' -MMD -MP -c -o $@ $<

# ---- point to point: unit tests

UNIT_TESTS += $(BUILD)/tests/unit/test_match $(BUILD)/tests/unit/test_p2p
$(BUILD)/tests/unit/test_match: $(BUILD)/tests/unit/test_match.o $(BUILD)/msgcounter/stub/match.o
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_schedule_spin
$(BUILD)/tests/unit/test_schedule_spin: $(patsubst %,$(BUILD)/%.o,tests/unit/test_schedule_spin \
                                          msgcounter/stub/schedule_spin)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)
$(BUILD)/tests/unit/test_schedule_spin.o: CPPFLAGS += $(shell pkg-config --cflags mpich)
$(BUILD)/tests/unit/test_schedule_spin.o: | $(GEN_FILES) $(BUILD)/gen/cross_offsets.h

# The stub as ordinary objects, over a lower half of the test's own. gcc takes MPI_STATUSES_IGNORE
# for an array of no elements.
P2P_TEST_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard msgcounter/stub/*.c msgcounter/layout/*.c)) \
                 $(patsubst %,$(BUILD)/msgcounter/log/%.o,log order system_data system_table) \
                 $(patsubst %.S,$(BUILD)/stub/%.o,$(wildcard msgcounter/stub/*.S)) \
                 $(BUILD)/stub/gen/call_table.o $(BUILD)/stub/gen/wrappers.o
$(BUILD)/tests/unit/test_p2p.o $(patsubst %.c,$(BUILD)/%.o,$(wildcard msgcounter/stub/*.c)): \
    CPPFLAGS += $(shell pkg-config --cflags mpich)
$(BUILD)/tests/unit/test_p2p.o: CFLAGS += -Wno-stringop-overflow
$(BUILD)/tests/unit/test_p2p.o $(P2P_TEST_OBJS): | $(GEN_FILES) $(BUILD)/gen/cross_offsets.h
$(BUILD)/tests/unit/test_p2p: $(BUILD)/tests/unit/test_p2p.o $(P2P_TEST_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check) -lpthread
