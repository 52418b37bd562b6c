# gdbbridge/: GDB remote-protocol stub

# Knows neither sockets nor ptrace.
RSP_OBJS := $(patsubst %,$(BUILD)/gdbbridge/%.o,bytes rsp rsp_command signals registers session \
              session_run session_state session_query session_xfer session_file)
# All of it, for dbg3.
GDBBRIDGE_OBJS := $(RSP_OBJS) $(patsubst %,$(BUILD)/gdbbridge/%.o,procfs tls ptrace_target \
                    ptrace_start ptrace_wait ptrace_resume ptrace_state ptrace_points transport \
                    gdbserver gdbserver_main)

# The stub as a program of its own, for the tests.
# An isolated rank behind the protocol; only the dbg3 command needs it.
DBG3_OBJS += $(GDBBRIDGE_OBJS) $(BUILD)/gdbbridge/isolated.o

PROGRAMS += $(BUILD)/gdbbridge/gdbserver
$(BUILD)/gdbbridge/gdbserver: $(BUILD)/tests/flow/gdb/serve.o $(GDBBRIDGE_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^

# Programs that the flow tests debug, as a user builds them.
GDB_PROGRAMS := $(patsubst %,$(BUILD)/tests/flow/gdb/%,libshared.so libopened.so threads actions crowd \
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
$(BUILD)/tests/flow/gdb/adopt: $(BUILD)/tests/flow/gdb/adopt.o $(GDBBRIDGE_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^
