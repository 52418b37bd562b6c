# replay/: the lower program without MPI, and the isolation of one rank

REPLAY_ONLY := replay/replay_main runtime/ckpt/restart msgcounter/log/log msgcounter/log/log_file
$(call lower-objs,$(REPLAY_ONLY)): $(BUILD)/gen/call_id.h
$(BUILD)/dbg3-replay: $(call lower-objs,$(HALF_COMMON) $(REPLAY_ONLY))
	$(call link-lower,$^,)
PROGRAMS += $(BUILD)/dbg3-replay

DBG3_OBJS += $(BUILD)/replay/isolate.o
