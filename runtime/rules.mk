# runtime/: base, half, image, ckpt, coord, launch, cmd

# Pure library: what lives in an ordinary process. Linked by dbg3, the tests and the lower program.
BASE_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard runtime/base/*.c))
