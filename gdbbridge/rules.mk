# gdbbridge/: GDB remote-protocol stub

# Knows neither sockets nor ptrace.
RSP_OBJS := $(patsubst %,$(BUILD)/gdbbridge/%.o,bytes rsp rsp_command signals registers session \
              session_run session_state session_query session_xfer session_file)
# All of it, for dbg3.
GDBBRIDGE_OBJS := $(RSP_OBJS) $(patsubst %,$(BUILD)/gdbbridge/%.o,procfs tls ptrace_target \
                    ptrace_start ptrace_wait ptrace_resume ptrace_state ptrace_points transport \
                    gdbserver gdbserver_main)

# The stub as a program of its own, for the tests.
PROGRAMS += $(BUILD)/gdbbridge/gdbserver
$(BUILD)/gdbbridge/gdbserver: $(BUILD)/tests/flow/gdb/serve.o $(GDBBRIDGE_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^
