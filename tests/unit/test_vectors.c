/*
 * test_vectors.c - signal frames of other processors, returned to on this one
 *
 * The handler makes its frame look as if another kind of processor had written it, and adapts it.
 */
#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "runtime/ckpt/vectors.h"
#include "runtime/image/image_xsave.h"
#include "tests/unit/unit.h"

#define AREA_MAX 16384

/* Zen 4; Zen 3, which has no AVX-512; and Intel's. */
static const image_xsave_offsets zen4 = {[2] = 576, [5] = 832, [6] = 896, [7] = 1408, [9] = 2432};
static const image_xsave_offsets zen3 = {[2] = 576, [9] = 832};

static struct {
    const unsigned *at;      /* the other processor's components */
    uint64_t more;           /* features that it had besides ours */
    _Alignas(64) uint8_t area[AREA_MAX]; /* its frame */
    _Alignas(64) uint8_t free[AREA_MAX];
    uint64_t bv; /* components in use, in the frame that is returned to */
} other;

/* What the image would say of the thread. */
static void describe(struct image_thread *t, struct codec_bytes *notes, const uint8_t *area,
                     const struct vectors_software *sw)
{
    codec_bytes_add(notes, area, IMAGE_XSAVE_LEGACY);
    image_xsave_add(notes, sw->features, area, sw->size, image_xsave_here());
    *t = (struct image_thread){
        .xsave = notes->data, .xsave_size = (uint32_t)notes->len, .xsave_for_gdb = true};
}

static void handler(int sig, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    uint8_t *area = (uint8_t *)frame->uc_mcontext.fpregs;
    struct vectors_software sw;
    memcpy(&sw, area + VECTORS_SOFTWARE_AT, sizeof sw);
    struct image_thread thread;
    struct codec_bytes notes = {0};
    describe(&thread, &notes, area, &sw);

    /* Where this processor looks there is nothing of use. */
    memset(other.area, 0xee, sizeof other.area);
    memcpy(other.area, area, IMAGE_XSAVE_EXTENDED);
    size_t size = image_xsave_move(other.area, other.at, notes.data, notes.len, image_xsave_gdb,
                                   sw.features);
    const uint32_t magic = VECTORS_MAGIC_2;
    memcpy(other.area + size, &magic, sizeof magic);
    sw.size = (uint32_t)size;
    sw.extended_size = (uint32_t)(size + sizeof magic);
    sw.features |= other.more;
    memcpy(other.area + VECTORS_SOFTWARE_AT, &sw, sizeof sw);
    frame->uc_mcontext.fpregs = (void *)other.area;

    vectors_adapt(frame, &thread, (uint64_t)(other.free + sizeof other.free));
    memcpy(&other.bv, (uint8_t *)frame->uc_mcontext.fpregs + IMAGE_XSAVE_LEGACY, sizeof other.bv);
    codec_bytes_release(&notes);
}

/* Sets vector registers, gets the signal, and says what is in them then. */
static void through_signal(uint64_t out[8], int wide)
{
    uint64_t in[8];
    for (int i = 0; i < 8; i++)
        in[i] = 0x1234567890 + (uint64_t)i;
    long pid = getpid(), tid = syscall(SYS_gettid);
    if (wide)
        __asm__ volatile("vmovdqu64 (%[in]), %%zmm21\n syscall\n vmovdqu64 %%zmm21, (%[out])"
                         : "+a"((long){SYS_tgkill})
                         : "D"(pid), "S"(tid), "d"((long)SIGUSR1), [in] "r"(in), [out] "r"(out)
                         : "rcx", "r11", "memory");
    else
        __asm__ volatile("vmovdqu (%[in]), %%ymm5\n syscall\n vmovdqu %%ymm5, (%[out])"
                         : "+a"((long){SYS_tgkill})
                         : "D"(pid), "S"(tid), "d"((long)SIGUSR1), [in] "r"(in), [out] "r"(out)
                         : "rcx", "r11", "xmm5", "memory");
}

static void expect_kept(const unsigned *at, uint64_t more, int wide)
{
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    ck_assert_int_eq(sigaction(SIGUSR1, &act, NULL), 0);
    uint64_t out[8] = {0};
    other.at = at;
    other.more = more;
    through_signal(out, wide);
    for (int i = 0; i < (wide ? 8 : 4); i++)
        ck_assert_uint_eq(out[i], 0x1234567890 + (uint64_t)i);
    ck_assert_uint_eq(other.bv & more, 0);
}

START_TEST(frames_of_other_processors)
{
    static const struct {
        const unsigned *at;
        uint64_t more;
    } cases[] = {{image_xsave_gdb, 0}, {zen4, 0}, {zen3, 0}, {zen4, 1ul << 18},
                 {image_xsave_gdb, 1ul << 17 | 1ul << 18}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (__builtin_cpu_supports("avx2"))
            expect_kept(cases[i].at, cases[i].more, 0);
        if (__builtin_cpu_supports("avx512f") && cases[i].at != zen3)
            expect_kept(cases[i].at, cases[i].more, 1);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("vectors");
    TCase *t = tcase_create("frames");
    tcase_add_test(t, frames_of_other_processors);
    suite_add_tcase(s, t);
    return unit_run(s);
}
