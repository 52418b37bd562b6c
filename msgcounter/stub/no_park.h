/*
 * no_park.h - code of the stub in which no thread parks
 *
 * Where an image must not be made though the thread is in none of the stub's calls: between a
 * signal and the decision where its handler runs, which may have interrupted the kernel's vdso; and
 * around that (clock_live.S). A request to park that finds a thread there comes again. Functions
 * that such code calls may need the attribute, too.
 */
#ifndef DBG3_STUB_NO_PARK_H
#define DBG3_STUB_NO_PARK_H

#define NO_PARK __attribute__((section("no_park"), noinline))

/* Of that section; defined by the linker. */
extern const char __start_no_park[] __attribute__((visibility("hidden")));
extern const char __stop_no_park[] __attribute__((visibility("hidden")));

#endif
