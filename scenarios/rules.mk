# scenarios/: small MPI programs, each with one documented bug; built as a user would build them,
# with the MPI compilers and no flag of ours.

# gcc takes MPI_STATUSES_IGNORE for an array that is too short.
SCENARIO_CFLAGS := -g -O1 -Wall -Wextra -Wno-stringop-overflow $(WERROR)
SCENARIO_FFLAGS := -g -O1 -Wall $(WERROR)
MPICC           ?= mpicc
MPIFORT         ?= mpifort

SCENARIOS := $(patsubst scenarios/%.c,$(BUILD)/scenarios/%,$(wildcard scenarios/*.c)) \
             $(patsubst scenarios/%.f90,$(BUILD)/scenarios/%,$(wildcard scenarios/*.f90))
PROGRAMS  += $(SCENARIOS)

$(BUILD)/scenarios/openmp_%: SCENARIO_CFLAGS += -fopenmp

$(BUILD)/scenarios/%: scenarios/%.c
	@mkdir -p $(@D)
	$(MPICC) $(SCENARIO_CFLAGS) -o $@ $< -lm

$(BUILD)/scenarios/%: scenarios/%.f90
	@mkdir -p $(@D)/modules-$*
	$(MPIFORT) $(SCENARIO_FFLAGS) -J $(@D)/modules-$* -o $@ $<
