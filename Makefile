# dbg3: one non-recursive Makefile; each top folder adds its objects and targets in rules.mk.
#
#   make            build everything into build/
#   make help       list the targets

CC       ?= gcc
BUILD    ?= build
PYTHON   ?= python3
PREFIX   ?= /usr/local
OPT      ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-unused-parameter
WERROR   ?= -Werror
SANITIZE ?=
CPPFLAGS := -I. -I$(BUILD)/gen -D_GNU_SOURCE
CFLAGS   := -std=gnu11 $(OPT) $(WARN) $(WERROR) -fno-strict-aliasing -fstack-protector-strong
LDFLAGS  :=
ifneq ($(SANITIZE),)
SAN      := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer
endif

# What a Debian 12 needs to build, test and use everything.
PACKAGES := gcc clang make pkg-config python3 gfortran mpich libmpich-dev gdb check libuv1-dev libsqlite3-dev libxxhash-dev liblz4-dev libzstd-dev libelf-dev libdw-dev libjansson-dev libncurses-dev libclang-rt-14-dev libsubunit-dev spin

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

# Filled by the rules.mk files.
PROGRAMS   :=# what `make` builds
UNIT_TESTS :=# Check programs that `make check` runs
FLOW_TESTS :=# scripts that `make check-flow` runs
FUZZERS    :=

# Includes point one way (DESIGN): rules of the lower rooms first.
include runtime/rules.mk msgcounter/rules.mk replay/rules.mk $(filter-out runtime/% msgcounter/% replay/%,$(sort $(wildcard */rules.mk)))

# An ordinary object (a pure library or the dbg3 command). Split-process objects have rules of
# their own in runtime/rules.mk, msgcounter/rules.mk and replay/rules.mk.
$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(SAN) -MMD -MP -c -o $@ $<

# Everything is rebuilt when the compiler or its flags change.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(SAN)' | cmp -s - $@ || echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(SAN)' > $@
FORCE:

all: $(PROGRAMS) ## build everything

check: all $(UNIT_TESTS) ## fast tests: unit, golden, corpus replay, dependencies, headers, symbols
	@tests/run-unit $(UNIT_TESTS)

check-flow: all ## end-to-end flows under mpiexec
	@tests/run-flow $(FLOW_TESTS)

check-all: check check-flow ## both

clean: ## remove build/
	rm -rf $(BUILD)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

.PHONY: all check check-flow check-all clean help FORCE
