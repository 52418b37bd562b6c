# gdbbridge/: GDB remote-protocol stub

# Knows neither sockets nor ptrace.
RSP_OBJS := $(patsubst %,$(BUILD)/gdbbridge/%.o,bytes rsp rsp_command signals registers session \
              session_run session_state session_query session_xfer session_file)
# All of it, for dbg3.
GDBBRIDGE_OBJS := $(RSP_OBJS) $(patsubst %,$(BUILD)/gdbbridge/%.o,procfs osdata tls ptrace_target \
                    ptrace_start ptrace_wait ptrace_pass ptrace_resume ptrace_state \
                    ptrace_points agent agent_print script dispatch journal reverse \
                    reverse_find reverse_goto reverse_keep reverse_leg reverse_search reverse_step \
                    reverse_copy reverse_crowd reverse_event reverse_run reverse_trace reverse_wait transport \
                    gdbserver gdbserver_main)

# GDB's end of moving by messages.
PROGRAMS += $(BUILD)/dbg3-gdb.py $(BUILD)/dbg3-attach.gdb
$(BUILD)/dbg3-gdb.py $(BUILD)/dbg3-attach.gdb: $(BUILD)/%: gdbbridge/%
	@mkdir -p $(@D)
	cp $< $@
INSTALL += $(BUILD)/dbg3-gdb.py:lib/dbg3/dbg3-gdb.py $(BUILD)/dbg3-attach.gdb:lib/dbg3/dbg3-attach.gdb

# The stub as a program of its own, for the tests.
# An isolated rank behind the protocol; only the dbg3 command needs it.
DBG3_OBJS += $(GDBBRIDGE_OBJS) \
             $(patsubst %,$(BUILD)/gdbbridge/%.o,isolated by_message by_message_comm by_message_commands by_message_keep by_message_say recording)
$(BUILD)/gdbbridge/recording.o: $(BUILD)/gen/call_id.h

PROGRAMS += $(BUILD)/gdbbridge/gdbserver
$(BUILD)/gdbbridge/gdbserver: $(BUILD)/tests/flow/gdb/serve.o $(GDBBRIDGE_OBJS) \
                              $(SYSTEM_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^

# Programs that the flow tests debug, as a user builds them.
GDB_PROGRAMS := $(patsubst %,$(BUILD)/tests/flow/gdb/%,libshared.so libopened.so threads actions crowd inputs \
                  replayed)
PROGRAMS     += $(GDB_PROGRAMS)
$(BUILD)/tests/flow/gdb/lib%.so: tests/flow/gdb/%.c
	@mkdir -p $(@D)
	$(CC) -g -O0 -fPIC -shared -o $@ $<
$(BUILD)/tests/flow/gdb/threads: tests/flow/gdb/threads.c $(BUILD)/tests/flow/gdb/libshared.so
	@mkdir -p $(@D)
	$(CC) -g -O0 -pthread -o $@ $< -L$(@D) -lshared -Wl,-rpath,'$$ORIGIN'
$(BUILD)/tests/flow/gdb/%: tests/flow/gdb/%.c
	@mkdir -p $(@D)
	$(CC) -g -O0 -pthread -o $@ $<

# A caller of the library as `dbg3 isolate` is one.
PROGRAMS += $(BUILD)/tests/flow/gdb/adopt
$(BUILD)/tests/flow/gdb/adopt: $(BUILD)/tests/flow/gdb/adopt.o $(GDBBRIDGE_OBJS) \
                                    $(SYSTEM_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^

# ---- tests

UNIT_TESTS += $(BUILD)/tests/unit/test_rsp
PURE_TESTS += $(BUILD)/tests/unit/test_rsp
$(BUILD)/tests/unit/test_rsp: $(patsubst %,$(BUILD)/tests/%.o,unit/test_rsp unit/test_rsp_fake \
                                fuzz/fuzz_rsp) $(RSP_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_rsp_session
PURE_TESTS += $(BUILD)/tests/unit/test_rsp_session
$(BUILD)/tests/unit/test_rsp_session: \
    $(patsubst %,$(BUILD)/tests/%.o,unit/test_rsp_session unit/test_rsp_fake fuzz/fuzz_session) \
    $(RSP_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_gdb_target
$(BUILD)/tests/unit/test_gdb_target: $(patsubst %,$(BUILD)/%.o,tests/unit/test_gdb_target \
                                       gdbbridge/bytes gdbbridge/registers gdbbridge/tls \
                                       gdbbridge/procfs gdbbridge/osdata) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_ptrace_target
$(BUILD)/tests/unit/test_ptrace_target: $(BUILD)/tests/unit/test_ptrace_target.o \
                                          $(GDBBRIDGE_OBJS) $(SYSTEM_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_recording
PURE_TESTS += $(BUILD)/tests/unit/test_recording
$(BUILD)/tests/unit/test_recording.o: $(BUILD)/gen/call_id.h
$(BUILD)/tests/unit/test_recording: $(patsubst %,$(BUILD)/%.o,tests/unit/test_recording \
                                      gdbbridge/recording) $(LOG_OBJS) $(SYSTEM_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check jansson libxxhash)

UNIT_TESTS += $(BUILD)/tests/unit/test_reverse
PURE_TESTS += $(BUILD)/tests/unit/test_reverse
$(BUILD)/tests/unit/test_reverse: $(patsubst %,$(BUILD)/%.o,tests/unit/test_reverse \
                                    gdbbridge/reverse_trace)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_reverse_copy
$(BUILD)/tests/unit/test_reverse_copy: $(BUILD)/tests/unit/test_reverse_copy.o $(GDBBRIDGE_OBJS) \
                                         $(SYSTEM_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_agent
PURE_TESTS += $(BUILD)/tests/unit/test_agent
$(BUILD)/tests/unit/test_agent: $(patsubst %,$(BUILD)/%.o,tests/unit/test_agent gdbbridge/agent \
                                  gdbbridge/agent_print gdbbridge/bytes)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

FUZZERS += $(BUILD)/tests/fuzz/fuzz_rsp $(BUILD)/tests/fuzz/fuzz_session
$(BUILD)/tests/fuzz/fuzz_rsp $(BUILD)/tests/fuzz/fuzz_session: \
    $(RSP_OBJS:$(BUILD)/%.o=%.c) $(BASE_OBJS:$(BUILD)/%.o=%.c) tests/unit/test_rsp_fake.c
$(BUILD)/tests/fuzz/fuzz_rsp $(BUILD)/tests/fuzz/fuzz_session: $(BUILD)/%: %.c
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 -O1 -g -fno-strict-aliasing -fsanitize=fuzzer,address,undefined \
	    -o $@ $(filter %.c,$^)
