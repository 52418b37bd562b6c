# msgcounter/: call table and generator, stub, handles, counters, order and payload log

# ---- payload log and layouts

LOG_OBJS := $(patsubst %,$(BUILD)/msgcounter/log/%.o,log log_file log_read log_dump)

UNIT_TESTS += $(BUILD)/tests/unit/test_log
$(BUILD)/tests/unit/test_log: $(patsubst %,$(BUILD)/%.o,tests/unit/test_log tests/fuzz/fuzz_log \
                                runtime/base/err) $(LOG_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check jansson)

FUZZERS += $(BUILD)/tests/fuzz/fuzz_log
$(BUILD)/tests/fuzz/fuzz_log: $(patsubst %,msgcounter/log/%.c,log log_file log_read log_dump) \
                              tests/fuzz/fuzz_log.c runtime/base/err.c
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
