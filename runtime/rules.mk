# runtime/: base, half, image, ckpt, coord, launch, cmd

# Pure library: what lives in an ordinary process. Linked by dbg3, the tests and the lower program.
BASE_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard runtime/base/*.c))

# ---- checkpoint images. The dump needs jansson; the lower program does without it.
IMAGE_OBJS      := $(patsubst %,$(BUILD)/runtime/image/image_%.o,build_id codec core io layout \
                     notes plan read segment source write xsave)
IMAGE_DUMP_OBJS := $(BUILD)/runtime/image/image_dump.o

UNIT_TESTS += $(BUILD)/tests/unit/test_image
$(BUILD)/tests/unit/test_image: $(patsubst %,$(BUILD)/%.o,tests/unit/test_image tests/unit/image_util \
                                  tests/fuzz/fuzz_image) $(IMAGE_OBJS) $(IMAGE_DUMP_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check jansson)

UNIT_TESTS += $(BUILD)/tests/unit/test_image_gdb
$(BUILD)/tests/unit/test_image_gdb: $(patsubst %,$(BUILD)/%.o,tests/unit/test_image_gdb tests/unit/image_util) \
                                      $(IMAGE_OBJS) $(BASE_OBJS) | $(BUILD)/tests/unit/image_victim
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)
$(BUILD)/tests/unit/image_victim: tests/unit/image_victim.c
	@mkdir -p $(@D)
	$(CC) -g -O0 -pthread -o $@ $<

FUZZERS += $(BUILD)/tests/fuzz/fuzz_image
$(BUILD)/tests/fuzz/fuzz_image: $(wildcard runtime/image/*.c runtime/base/*.c) tests/fuzz/fuzz_image.c
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 -O1 -g -fno-strict-aliasing -fsanitize=fuzzer,address,undefined \
	    -o $@ $^ -ljansson

# ---- split process: half, ckpt, launch
#
# dbg3-lower is a program at a fixed address above the split: position-independent objects linked without
# PIE (and with Scrt1.o, because crt1.o's 32-bit relocations do not reach that far). dbg3-replay
# (replay/rules.mk) is linked the same way.

LOWER_ADDRESS := 0x7d1000000000
LOWER_CFLAGS  := $(filter-out -fstack-protector-strong,$(CFLAGS)) -fPIC -fno-stack-protector \
                 -pthread
crt            = $(shell $(CC) -print-file-name=$(1))

# How to link such a program: $(call link-lower,OBJECTS,LIBRARIES)
link-lower = $(CC) -no-pie -nostartfiles -pthread -rdynamic -Wl,-z,now -Wl,--no-relax \
             -Wl,-Ttext-segment=$(LOWER_ADDRESS) -o $@ $(call crt,Scrt1.o) $(call crt,crti.o) \
             $(call crt,crtbeginS.o) $(1) $(2) $(call crt,crtendS.o) $(call crt,crtn.o)

HALF_COMMON := $(addprefix runtime/half/,half load maps own_fd arena steer steer_entry threads upper_vdso_image) \
               $(addprefix runtime/ckpt/,files files_restore interrupt locks park pending resume save) \
               $(addprefix runtime/ckpt/,save_regions share timers vectors) \
               $(basename $(filter-out runtime/image/image_dump.c,$(wildcard runtime/image/*.c)) $(wildcard runtime/base/*.c))
LOWER_ONLY  := $(addprefix runtime/half/,instructions lower_fd lower_main lower_mpi p2p_loops progress) \
               $(addprefix runtime/ckpt/,agent fatal fine fine_merge order_job payload payload_ring track restart restart_job written) \
               $(addprefix runtime/coord/,proto cut_rank) $(addprefix msgcounter/log/,log log_file order order_file)
lower-objs   = $(patsubst %,$(BUILD)/lower/%.o,$(1))

$(BUILD)/lower/%.o: %.c $(BUILD)/gen/cross_offsets.h $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(LOWER_CFLAGS) $(LOWER_CFLAGS_$(*F)) -MMD -MP -c -o $@ $<
$(BUILD)/lower/%.o: %.S $(BUILD)/gen/cross_offsets.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -c -o $@ $<

# Runs inside libc's system calls: no vector registers.
LOWER_CFLAGS_steer := -mgeneral-regs-only
LOWER_CFLAGS_arena := -mgeneral-regs-only

# Offsets of the gate for assembler code.
$(BUILD)/gen/cross_offsets.h: runtime/half/cross_offsets.c runtime/half/gate.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -std=gnu11 -O1 -S -o - $< | sed -n 's/^[[:space:]]*#define \(.*\) [$$]/#define \1 /p' > $@

# The vdso that the application sees, as bytes in the lower program.
$(BUILD)/lower/upper_vdso.so: runtime/half/upper_vdso.S runtime/half/upper_vdso.lds $(BUILD)/gen/cross_offsets.h
	@mkdir -p $(@D)
	$(CC) -I$(BUILD)/gen -shared -nostdlib -Wl,-soname,linux-vdso.so.1 -Wl,--hash-style=both \
	    -Wl,--build-id=none -Wl,--eh-frame-hdr \
	    -Wl,-T,runtime/half/upper_vdso.lds -o $@ $<
	strip --strip-debug $@
$(BUILD)/lower/runtime/half/upper_vdso_image.o: $(BUILD)/lower/upper_vdso.so
	@mkdir -p $(@D)
	printf '.section .rodata\n.globl upper_vdso_start, upper_vdso_end\n.balign 16\nupper_vdso_start:\n.incbin "$<"\nupper_vdso_end:\n.section .note.GNU-stack,"",@progbits\n' | $(CC) -x assembler -c -o $@ -

# The preload by which ranks come under control: no libc, first constructor of all.
$(BUILD)/libdbg3-launch.so: runtime/launch/launch.c runtime/launch/env.h runtime/half/loading.h \
                            runtime/half/sys.h $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(filter-out -fstack-protector-strong,$(CFLAGS)) -fPIC -fno-stack-protector \
	    -fno-builtin -shared -Wl,-z,initfirst -Wl,-soname,libdbg3-launch.so -o $@ $<

# The lower program with MPI. The generated table names each function of the library once.
MPI_CFLAGS := $(shell pkg-config --cflags mpich)
MPI_LIBS   := $(shell pkg-config --libs mpich)
LOWER_CFLAGS_lower_mpi := $(MPI_CFLAGS)
LOWER_CFLAGS_p2p_loops := $(MPI_CFLAGS)
$(call lower-objs,$(LOWER_ONLY)): $(BUILD)/gen/call_id.h
$(BUILD)/lower/lower_table.o: $(BUILD)/gen/lower_table.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(LOWER_CFLAGS) -c -o $@ $<
$(BUILD)/dbg3-lower: $(call lower-objs,$(HALF_COMMON) $(LOWER_ONLY)) $(BUILD)/lower/lower_table.o
	$(call link-lower,$^,$(MPI_LIBS) -lZydis)
PROGRAMS += $(BUILD)/dbg3-lower $(BUILD)/libdbg3-launch.so

# ---- coordinator and the dbg3 command

PACK_OBJS  := $(patsubst %.c,$(BUILD)/%.o,$(wildcard runtime/pack/*.c))
COORD_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard runtime/coord/*.c))
CMD_OBJS   := $(patsubst %.c,$(BUILD)/%.o,$(filter-out runtime/cmd/main.c,$(wildcard runtime/cmd/*.c)))
CMD_LIBS    = $(shell pkg-config --libs libuv sqlite3 jansson libdw libelf libxxhash libzstd) -lm

# The command links engines of the folders above it; their rules.mk are read later. A folder adds what
# is not named here with DBG3_OBJS += ...
.SECONDEXPANSION:
PROGRAMS += $(BUILD)/dbg3
$(BUILD)/dbg3: $(BUILD)/runtime/cmd/main.o $(CMD_OBJS) $(COORD_OBJS) $(PACK_OBJS) $(IMAGE_OBJS) \
               $(IMAGE_DUMP_OBJS) $(BASE_OBJS) $$(LOG_OBJS) $$(DBG3_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(CMD_LIBS)

UNIT_TESTS += $(BUILD)/tests/unit/test_cut
$(BUILD)/tests/unit/test_cut: $(patsubst %,$(BUILD)/%.o,tests/unit/test_cut tests/unit/cut_sim \
                                runtime/coord/cut runtime/coord/cut_rank runtime/coord/proto) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_coord
$(BUILD)/tests/unit/test_coord: $(BUILD)/tests/unit/test_coord.o $(COORD_OBJS) $(BASE_OBJS) \
                                | $(BUILD)/tests/unit/fake_ranks
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check) $(CMD_LIBS)
$(BUILD)/tests/unit/fake_ranks: $(patsubst %,$(BUILD)/%.o,tests/unit/fake_ranks tests/unit/cut_sim \
                                  runtime/coord/cut_rank runtime/coord/proto) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^

UNIT_TESTS += $(BUILD)/tests/unit/test_half
$(BUILD)/tests/unit/test_half: $(patsubst %,$(BUILD)/%.o,tests/unit/test_half tests/fuzz/fuzz_maps \
                                 runtime/half/arena runtime/half/maps) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_instructions
$(BUILD)/tests/unit/test_instructions: $(patsubst %,$(BUILD)/%.o,tests/unit/test_instructions \
                                         runtime/half/instructions runtime/half/maps) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check) -lZydis

FUZZERS += $(BUILD)/tests/fuzz/fuzz_maps
$(BUILD)/tests/fuzz/fuzz_maps: tests/fuzz/fuzz_maps.c runtime/half/maps.c runtime/base/err.c
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 -O1 -g -fsanitize=fuzzer,address,undefined -o $@ $^

UNIT_TESTS += $(BUILD)/tests/unit/test_proto
$(BUILD)/tests/unit/test_proto: $(patsubst %,$(BUILD)/%.o,tests/unit/test_proto tests/fuzz/fuzz_proto \
                                  tests/unit/cut_sim runtime/coord/cut_rank runtime/coord/proto) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

FUZZERS += $(BUILD)/tests/fuzz/fuzz_proto
$(BUILD)/tests/fuzz/fuzz_proto: runtime/coord/proto.c runtime/base/err.c tests/fuzz/fuzz_proto.c
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 -O1 -g -fno-strict-aliasing -fsanitize=fuzzer,address,undefined -o $@ $^

UNIT_TESTS += $(BUILD)/tests/unit/test_pack
$(BUILD)/tests/unit/test_pack: $(patsubst %,$(BUILD)/%.o,tests/unit/test_pack tests/fuzz/fuzz_pack \
                                 msgcounter/log/log_file msgcounter/log/log) \
                               $(PACK_OBJS) $(IMAGE_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check) $(CMD_LIBS)

FUZZERS += $(BUILD)/tests/fuzz/fuzz_pack
$(BUILD)/tests/fuzz/fuzz_pack: $(patsubst %,runtime/pack/%.c,archive_read archive_write bundle_open \
                                 features manifest) runtime/image/image_io.c tests/fuzz/fuzz_pack.c \
                                 $(wildcard runtime/base/*.c)
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 -O1 -g -fno-strict-aliasing -fsanitize=fuzzer,address,undefined \
	    -o $@ $^ -ljansson -lzstd -lxxhash

# ---- man page and completion, from the command's own tables

$(BUILD)/dbg3.1: docs/man/dbg3.1.in $(BUILD)/dbg3
	@for part in commands gdb exit settings; do $(BUILD)/dbg3 help man-$$part > $@.$$part || exit 1; done
	sed -e 's/@VERSION@/$(shell sed -n 's/^#define DBG3_VERSION "\(.*\)"/\1/p' runtime/cmd/cmd.h)/' \
	    -e '/^@COMMANDS@$$/{r $@.commands' -e 'd}' -e '/^@GDB@$$/{r $@.gdb' -e 'd}' \
	    -e '/^@EXIT@$$/{r $@.exit' -e 'd}' \
	    -e '/^@SETTINGS@$$/{r $@.settings' -e 'd}' $< > $@
	@rm -f $@.commands $@.gdb $@.exit $@.settings
$(BUILD)/dbg3.bash: $(BUILD)/dbg3
	$(BUILD)/dbg3 help completion > $@
PROGRAMS += $(BUILD)/dbg3.1 $(BUILD)/dbg3.bash

INSTALL += $(BUILD)/dbg3:bin/dbg3 $(BUILD)/dbg3.1:share/man/man1/dbg3.1 \
           $(BUILD)/dbg3.bash:share/bash-completion/completions/dbg3 \
           $(foreach f,dbg3-lower dbg3-replay libdbg3-launch.so lib/libmpich.so.12 \
                      lib/libmpi.so.12,$(BUILD)/$(f):lib/dbg3/$(f))

UNIT_TESTS += $(BUILD)/tests/unit/test_payload_ring
$(BUILD)/tests/unit/test_payload_ring: $(patsubst %,$(BUILD)/%.o,tests/unit/test_payload_ring \
                                         runtime/ckpt/payload_ring runtime/half/own_fd) \
                                         $$(LOG_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check jansson) -lxxhash

UNIT_TESTS += $(BUILD)/tests/unit/test_pending
$(BUILD)/tests/unit/test_pending: $(patsubst %,$(BUILD)/%.o,tests/unit/test_pending runtime/ckpt/pending)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_vectors
$(BUILD)/tests/unit/test_vectors: $(patsubst %,$(BUILD)/%.o,tests/unit/test_vectors runtime/ckpt/vectors) \
                                    $(IMAGE_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_written
$(BUILD)/tests/unit/test_written: $(patsubst %,$(BUILD)/%.o,tests/unit/test_written runtime/ckpt/written)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check)

UNIT_TESTS += $(BUILD)/tests/unit/test_session $(BUILD)/tests/unit/test_cmd
$(BUILD)/tests/unit/test_session: $(BUILD)/tests/unit/test_session.o $(COORD_OBJS) $(BASE_OBJS)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check) $(CMD_LIBS)
$(BUILD)/tests/unit/test_cmd: $(BUILD)/tests/unit/test_cmd.o $(COORD_OBJS) $(BASE_OBJS) \
                              $(patsubst %,$(BUILD)/runtime/cmd/%.o,environment out preflight report tables) \
                              $(patsubst %,$(BUILD)/msgcounter/log/%.o,log log_file log_read)
	$(CC) $(LDFLAGS) $(SAN) -o $@ $^ $(shell pkg-config --libs check) $(CMD_LIBS)
$(patsubst %,$(BUILD)/runtime/cmd/%.o,messages isolate pack report): $(BUILD)/gen/call_id.h
$(BUILD)/runtime/cmd/help.o: $(BUILD)/gen/call_limits.h
