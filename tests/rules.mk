# tests/: unit tests, fuzzers, and the programs that the flow tests run.

# Flow-test programs: built plainly, as a user would (scenarios/rules.mk has the flags).
FLOW_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/flow/programs/*.c))
PROGRAMS      += $(FLOW_PROGRAMS)

$(BUILD)/tests/flow/programs/%: tests/flow/programs/%.c tests/flow/programs/check.h
	@mkdir -p $(@D)
	$(MPICC) $(SCENARIO_CFLAGS) -Wno-unused-parameter -pthread -o $@ $< -lm
