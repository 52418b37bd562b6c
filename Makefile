# dbg3: one non-recursive Makefile; each top folder adds its objects and targets in rules.mk.
#
#   make            build everything into build/; V=1 shows the commands
#   make help       list the targets
#
#   make BUILD=build-clang CC=clang               another compiler, beside the first
#   make BUILD=build-asan SANITIZE=address,undefined
#                                                 what lives in ordinary processes under sanitizers

CC       ?= gcc
BUILD    ?= build
ifeq ($(strip $(BUILD)),)
  $(error BUILD is empty: leave it out, or name a folder)
endif
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
PACKAGES := gcc clang make pkg-config python3 gfortran mpich libmpich-dev gdb check libuv1-dev libsqlite3-dev libxxhash-dev liblz4-dev libzstd-dev zstd libelf-dev libdw-dev libzydis-dev libjansson-dev libncurses-dev libclang-rt-14-dev libsubunit-dev spin tmux

# How long `make fuzz` runs each fuzzer.
FUZZ_SECONDS ?= 5

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

# Filled by the rules.mk files.
PROGRAMS   :=# what `make` builds
UNIT_TESTS :=# Check programs that `make check` runs
FLOW_TESTS :=# scripts that `make check-flow` runs
FUZZERS    :=# libFuzzer programs, fuzz_<thing>; their corpus is tests/fuzz/corpus/<thing>/
INSTALL    :=# what `make install` copies: FILE:PLACE, the place below PREFIX; links stay links

# Includes point one way (DESIGN): rules of the lower rooms first.
include runtime/rules.mk msgcounter/rules.mk replay/rules.mk $(filter-out runtime/% msgcounter/% replay/%,$(sort $(wildcard */rules.mk)))

$(UNIT_TESTS): $(BUILD)/tests/unit/unit.o

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

check: all $(UNIT_TESTS) ## fast tests: unit, golden, corpus replay, dependencies, headers, form
	@BUILD='$(BUILD)' CC='$(CC)' tests/run-unit $(UNIT_TESTS)

check-flow: all ## end-to-end flows under mpiexec
	@BUILD='$(BUILD)' tests/run-flow $(FLOW_TESTS)

check-all: check check-flow ## both

check-model: ## all states of the cut's model (docs/cut.pml): a minute
	@tests/check-cut-model --exhaustive

check-clone: ## a fresh clone of HEAD builds without a warning with gcc and clang, and passes make check
	@tests/run-clone

check-sanitize: ## the unit tests under address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-sanitize SANITIZE=address,undefined check

fuzz: $(FUZZERS) ## run each fuzzer for FUZZ_SECONDS (default 5) from its corpus
	@BUILD='$(BUILD)' FUZZ_SECONDS='$(FUZZ_SECONDS)' tests/run-fuzz $(FUZZERS)

golden-update: all $(UNIT_TESTS) ## write tests/golden/ anew from what the tests see, and show what changed
	@BUILD='$(BUILD)' CC='$(CC)' GOLDEN_UPDATE=1 tests/run-unit $(UNIT_TESTS)
	@git --no-pager diff --stat -p -- tests/golden

deps: ## install what is missing of the packages that all this needs (Debian, as root)
	@.ci/packages $(PACKAGES)

demo: deps ## install, build, and run the three phases on scenarios/late_crash, unattended
	@$(MAKE) --no-print-directory all
	@BUILD='$(BUILD)' docs/demo.sh

install: all ## copy dbg3 and what it needs to PREFIX (default /usr/local)
	@set -e; for item in $(INSTALL); do \
	    file=$${item%%:*} place='$(DESTDIR)$(PREFIX)'/$${item#*:}; \
	    mode=644; [ ! -x "$$file" ] || mode=755; \
	    if [ -L "$$file" ]; then cp -P "$$file" "$$place"; \
	    else install -D -m $$mode "$$file" "$$place"; fi; \
	    echo "  INSTALL $$place"; \
	done

clean: ## remove the build folder
	rm -rf $(BUILD)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# Says "CC name" once for each target in place of its commands: make expands SHELL before each line
# of a recipe. V=1 shows the commands; make -s says nothing.
ifeq ($(V)$(findstring s,$(firstword -$(MAKEFLAGS))),)
.SILENT:
verb   = $(if $(filter %.o,$@),CC,$(if $(filter $(BUILD)/gen/%,$@),GEN,LINK))
say    = $(if $(said-$@),,$(eval said-$@ := 1)$(info $()  $(verb)	$(@:$(BUILD)/%=%)))
SHELL  = $(if $(filter-out $(BUILD)/flags,$(filter $(BUILD)/%,$@)),$(say))/bin/sh
endif

.PHONY: all check check-flow check-all check-sanitize check-model check-clone fuzz golden-update deps demo install clean help FORCE
