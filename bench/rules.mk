# bench/: measurements; `make bench` runs all of them (minutes, and a quiet machine).

PROGRAMS += $(BUILD)/bench/gate
$(BUILD)/bench/gate: bench/gate.c
	@mkdir -p $(@D)
	$(MPICC) $(SCENARIO_CFLAGS) -O2 -o $@ $<

bench: all ## measure against native runs; see bench/README.md
	bench/bench.py --build $(BUILD) all

.PHONY: bench
