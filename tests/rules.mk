# tests/: unit tests, fuzzers, and the programs that the flow tests run.

# Flow-test programs: built plainly, as a user would (scenarios/rules.mk has the flags).
FLOW_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/flow/programs/*.c))
PROGRAMS      += $(FLOW_PROGRAMS)
$(BUILD)/tests/flow/programs/schedule: SCENARIO_CFLAGS += -fopenmp
# C++'s random numbers, without a C++ compiler.
$(BUILD)/tests/flow/programs/inputs: SCENARIO_LIBS := -l:libstdc++.so.6

# Linked with no MPI library.
$(BUILD)/tests/flow/programs/loads: SCENARIO_CFLAGS += -Wl,--as-needed

$(BUILD)/tests/flow/programs/%: tests/flow/programs/%.c tests/flow/programs/check.h
	@mkdir -p $(@D)
	$(MPICC) $(SCENARIO_CFLAGS) -Wno-unused-parameter -pthread -o $@ $< $(SCENARIO_LIBS) -lm

# GDB's own test suite, from Debian's packages gdb-source, gdbserver and dejagnu: hours, by hand.
# SUITE: folders of it, or files.
SUITE ?= gdb.base gdb.threads gdb.python
check-gdb-suite: all ## GDB's test suite against dbg3 gdbserver and GDB's own, in DIR=FOLDER
	@test -n '$(DIR)' || { echo 'say DIR=FOLDER, where the suite is to be run'; exit 2; }
	for board in native-gdbserver dbg3 native-extended-gdbserver dbg3-extended; do \
	    BUILD='$(BUILD)' tests/gdb-suite --board $$board '$(DIR)' $(SUITE) || exit; \
	done
	BUILD='$(BUILD)' tests/gdb-suite --board dbg3-record '$(DIR)' gdb.reverse
	tests/gdb-suite --compare native-gdbserver dbg3 '$(DIR)' $(SUITE); a=$$?; \
	tests/gdb-suite --compare native-extended-gdbserver dbg3-extended '$(DIR)' $(SUITE) && exit $$a
.PHONY: check-gdb-suite
