/*
 * system_table.c - the application's system calls: what recording and replay do with each
 *
 * Sources: the manual pages, section 2; Linux arch/x86/entry/syscalls/syscall_64.tbl.
 */
#include "msgcounter/log/system_table.h"

#include <stddef.h>
#include <sys/syscall.h>

#define FIXED(arg, bytes)      {SYSTEM_FIXED, arg, 0, bytes}
#define RESULT(arg, unit, max) {SYSTEM_RESULT, arg, max, unit}
#define TIMES(arg, of, unit)   {SYSTEM_TIMES, arg, of, unit}
#define BITS(arg, of)          {SYSTEM_BITS, arg, of, 0}
#define SOCKLEN(arg, of)       {SYSTEM_SOCKLEN, arg, of, 0}
#define VECTOR(arg, of)        {SYSTEM_VECTOR, arg, of, 0}
#define MESSAGE(arg)           {SYSTEM_MESSAGE, arg, 0, 0}
#define COMMAND(arg, of)       {SYSTEM_COMMAND, arg, of, 0}

#define ROW(nr, n, how, ...) [SYS_##nr] = {.name = #nr, .nargs = n, .kind = how, __VA_ARGS__}
#define ANSWERED(nr, n, ...) ROW(nr, n, SYSTEM_ANSWERED, __VA_ARGS__)
#define OUTPUT(nr, n, ...)   ROW(nr, n, SYSTEM_OUTPUT, __VA_ARGS__)
#define MEMORY(nr, n)        ROW(nr, n, SYSTEM_MEMORY)
#define SIGNAL(nr, n)        ROW(nr, n, SYSTEM_SIGNAL)
#define ALONE(nr, n, ...)    ROW(nr, n, SYSTEM_ALONE, __VA_ARGS__)
#define PASSED(nr, n, ...)   ROW(nr, n, SYSTEM_PASSED, __VA_ARGS__)
#define REFUSED(nr)          ROW(nr, 0, SYSTEM_UNKNOWN)
#define OUT(...)             .out = {__VA_ARGS__}
#define PATH(arg)            .path = 1 + (arg)
#define MASK(arg)            .mask = 1 + (arg)
#define WAITS                .flags = SYSTEM_WAITS
#define WAITS_ALWAYS         .flags = SYSTEM_WAITS | SYSTEM_ALWAYS

/* Bytes of the kernel's structures. */
enum {
    STAT = 144,
    STATX = 256,
    STATFS = 120,
    RUSAGE = 144,
    SYSINFO = 112,
    UTSNAME = 390,
    TMS = 32,
    TIMEX = 208,
    TIMESPEC = 16,
    TIMEVAL = 16,
    ITIMER = 32,
    RLIMIT = 16,
    SIGINFO = 128,
    EPOLL_EVENT = 12,
    POLLFD = 8,
};

static const struct system_row rows[] = {
    /* ---- files: names, descriptors, contents */
    ANSWERED(open, 3, PATH(0), WAITS),
    ANSWERED(openat, 4, PATH(1), WAITS),
    ANSWERED(creat, 2, PATH(0)),
    ANSWERED(close, 1),
    ANSWERED(dup, 1),
    ANSWERED(dup2, 2),
    ANSWERED(dup3, 3),
    ANSWERED(lseek, 3),
    ANSWERED(fcntl, 3, WAITS, OUT(COMMAND(2, 1))),
    ANSWERED(ioctl, 3, WAITS, OUT(COMMAND(2, 1))),
    ANSWERED(flock, 2, WAITS),
    ANSWERED(fsync, 1),
    ANSWERED(fdatasync, 1),
    ANSWERED(sync, 0),
    ANSWERED(syncfs, 1),
    ANSWERED(ftruncate, 2),
    ANSWERED(truncate, 2, PATH(0)),
    ANSWERED(fallocate, 4),
    ANSWERED(fadvise64, 4),
    ANSWERED(readahead, 3),
    ANSWERED(read, 3, WAITS, OUT(RESULT(1, 1, 2))),
    ANSWERED(pread64, 4, WAITS, OUT(RESULT(1, 1, 2))),
    ANSWERED(readv, 3, WAITS, OUT(VECTOR(1, 2))),
    ANSWERED(preadv, 5, WAITS, OUT(VECTOR(1, 2))),
    ANSWERED(preadv2, 6, WAITS, OUT(VECTOR(1, 2))),
    OUTPUT(write, 3, WAITS, OUT(RESULT(1, 1, 2))),
    OUTPUT(pwrite64, 4, WAITS, OUT(RESULT(1, 1, 2))),
    OUTPUT(writev, 3, WAITS, OUT(VECTOR(1, 2))),
    OUTPUT(pwritev, 5, WAITS, OUT(VECTOR(1, 2))),
    OUTPUT(pwritev2, 6, WAITS, OUT(VECTOR(1, 2))),
    ANSWERED(sendfile, 4, WAITS, OUT(FIXED(2, 8))),
    ANSWERED(copy_file_range, 6, WAITS, OUT(FIXED(1, 8), FIXED(3, 8))),
    ANSWERED(splice, 6, WAITS, OUT(FIXED(1, 8), FIXED(3, 8))),
    ANSWERED(tee, 4, WAITS),
    ANSWERED(stat, 2, PATH(0), OUT(FIXED(1, STAT))),
    ANSWERED(lstat, 2, PATH(0), OUT(FIXED(1, STAT))),
    ANSWERED(fstat, 2, OUT(FIXED(1, STAT))),
    ANSWERED(newfstatat, 4, PATH(1), OUT(FIXED(2, STAT))),
    ANSWERED(statx, 5, PATH(1), OUT(FIXED(4, STATX))),
    ANSWERED(statfs, 2, PATH(0), OUT(FIXED(1, STATFS))),
    ANSWERED(fstatfs, 2, OUT(FIXED(1, STATFS))),
    ANSWERED(access, 2, PATH(0)),
    ANSWERED(faccessat, 3, PATH(1)),
    ANSWERED(faccessat2, 4, PATH(1)),
    ANSWERED(readlink, 3, PATH(0), OUT(RESULT(1, 1, 2))),
    ANSWERED(readlinkat, 4, PATH(1), OUT(RESULT(2, 1, 3))),
    ANSWERED(getdents, 3, OUT(RESULT(1, 1, 2))),
    ANSWERED(getdents64, 3, OUT(RESULT(1, 1, 2))),
    ANSWERED(getcwd, 2, OUT(RESULT(0, 1, 1))),
    ANSWERED(chdir, 1, PATH(0)),
    ANSWERED(fchdir, 1),
    ANSWERED(mkdir, 2, PATH(0)),
    ANSWERED(mkdirat, 3, PATH(1)),
    ANSWERED(rmdir, 1, PATH(0)),
    ANSWERED(unlink, 1, PATH(0)),
    ANSWERED(unlinkat, 3, PATH(1)),
    ANSWERED(rename, 2, PATH(0)),
    ANSWERED(renameat, 4, PATH(1)),
    ANSWERED(renameat2, 5, PATH(1)),
    ANSWERED(link, 2, PATH(0)),
    ANSWERED(linkat, 5, PATH(1)),
    ANSWERED(symlink, 2, PATH(0)),
    ANSWERED(symlinkat, 3, PATH(0)),
    ANSWERED(mknod, 3, PATH(0)),
    ANSWERED(chmod, 2, PATH(0)),
    ANSWERED(fchmod, 2),
    ANSWERED(fchmodat, 3, PATH(1)),
    ANSWERED(chown, 3, PATH(0)),
    ANSWERED(fchown, 3),
    ANSWERED(lchown, 3, PATH(0)),
    ANSWERED(fchownat, 5, PATH(1)),
    ANSWERED(umask, 1),
    ANSWERED(utime, 2, PATH(0)),
    ANSWERED(utimes, 2, PATH(0)),
    ANSWERED(utimensat, 4),
    ANSWERED(getxattr, 4, PATH(0), OUT(RESULT(2, 1, 3))),
    ANSWERED(fgetxattr, 4, OUT(RESULT(2, 1, 3))),
    ANSWERED(lgetxattr, 4, PATH(0), OUT(RESULT(2, 1, 3))),
    ANSWERED(listxattr, 3, PATH(0), OUT(RESULT(1, 1, 2))),
    ANSWERED(llistxattr, 3, PATH(0), OUT(RESULT(1, 1, 2))),
    ANSWERED(flistxattr, 3, OUT(RESULT(1, 1, 2))),
    ANSWERED(setxattr, 5, PATH(0)),
    ANSWERED(lsetxattr, 5, PATH(0)),
    ANSWERED(fsetxattr, 5),
    ANSWERED(removexattr, 2, PATH(0)),
    ANSWERED(lremovexattr, 2, PATH(0)),
    ANSWERED(fremovexattr, 2),
    ANSWERED(mknodat, 4, PATH(1)),
    ANSWERED(futimesat, 3),
    ANSWERED(sync_file_range, 4),
    ANSWERED(openat2, 4, PATH(1), WAITS),
    ANSWERED(close_range, 3),
    ANSWERED(memfd_create, 2),
    ANSWERED(inotify_init, 0),
    ANSWERED(inotify_init1, 1),
    ANSWERED(inotify_add_watch, 3, PATH(1)),
    ANSWERED(inotify_rm_watch, 2),

    /* ---- pipes, events, sockets */
    ANSWERED(pipe, 1, OUT(FIXED(0, 8))),
    ANSWERED(pipe2, 2, OUT(FIXED(0, 8))),
    ANSWERED(eventfd, 1),
    ANSWERED(eventfd2, 2),
    ANSWERED(signalfd, 3),
    ANSWERED(signalfd4, 4),
    ANSWERED(timerfd_create, 2),
    ANSWERED(timerfd_settime, 4, OUT(FIXED(3, ITIMER))),
    ANSWERED(timerfd_gettime, 2, OUT(FIXED(1, ITIMER))),
    ANSWERED(epoll_create, 1),
    ANSWERED(epoll_create1, 1),
    ANSWERED(epoll_ctl, 4),
    ANSWERED(epoll_wait, 4, WAITS, OUT(RESULT(1, EPOLL_EVENT, 2))),
    ANSWERED(epoll_pwait, 6, WAITS, MASK(4), OUT(RESULT(1, EPOLL_EVENT, 2))),
    ANSWERED(epoll_pwait2, 6, WAITS, MASK(4), OUT(RESULT(1, EPOLL_EVENT, 2))),
    ANSWERED(poll, 3, WAITS, OUT(TIMES(0, 1, POLLFD))),
    ANSWERED(ppoll, 5, WAITS_ALWAYS, MASK(3), OUT(TIMES(0, 1, POLLFD), FIXED(2, TIMESPEC))),
    ANSWERED(select, 5, WAITS_ALWAYS, OUT(BITS(1, 0), BITS(2, 0), BITS(3, 0), FIXED(4, TIMEVAL))),
    ANSWERED(pselect6, 6, WAITS_ALWAYS,
             OUT(BITS(1, 0), BITS(2, 0), BITS(3, 0), FIXED(4, TIMESPEC))),
    ANSWERED(socket, 3),
    ANSWERED(socketpair, 4, OUT(FIXED(3, 8))),
    ANSWERED(bind, 3),
    ANSWERED(listen, 2),
    ANSWERED(connect, 3, WAITS),
    ANSWERED(accept, 3, WAITS, OUT(SOCKLEN(1, 2))),
    ANSWERED(accept4, 4, WAITS, OUT(SOCKLEN(1, 2))),
    ANSWERED(shutdown, 2),
    ANSWERED(getsockname, 3, OUT(SOCKLEN(1, 2))),
    ANSWERED(getpeername, 3, OUT(SOCKLEN(1, 2))),
    ANSWERED(setsockopt, 5),
    ANSWERED(getsockopt, 5, OUT(SOCKLEN(3, 4))),
    ANSWERED(recvfrom, 6, WAITS, OUT(RESULT(1, 1, 2), SOCKLEN(4, 5))),
    ANSWERED(recvmsg, 3, WAITS, OUT(MESSAGE(1))),
    OUTPUT(sendto, 6, WAITS, OUT(RESULT(1, 1, 2))),
    OUTPUT(sendmsg, 3, WAITS, OUT(MESSAGE(1))),
    ANSWERED(mq_open, 4),
    ANSWERED(mq_unlink, 1),
    ANSWERED(mq_timedsend, 5, WAITS),
    ANSWERED(mq_timedreceive, 5, WAITS, OUT(RESULT(1, 1, 2), FIXED(3, 4))),
    ANSWERED(semget, 3),
    ANSWERED(semop, 3, WAITS),
    ANSWERED(semtimedop, 4, WAITS),

    /* ---- who and where it is, and how it is doing */
    ANSWERED(getrandom, 3, WAITS, OUT(RESULT(0, 1, 1))),
    ANSWERED(uname, 1, OUT(FIXED(0, UTSNAME))),
    ANSWERED(sysinfo, 1, OUT(FIXED(0, SYSINFO))),
    ANSWERED(getrusage, 2, OUT(FIXED(1, RUSAGE))),
    ANSWERED(times, 1, OUT(FIXED(0, TMS))),
    ANSWERED(getppid, 0),
    ANSWERED(getpgrp, 0),
    ANSWERED(getpgid, 1),
    ANSWERED(setpgid, 2),
    ANSWERED(getsid, 1),
    ANSWERED(setsid, 0),
    ANSWERED(getuid, 0),
    ANSWERED(geteuid, 0),
    ANSWERED(getgid, 0),
    ANSWERED(getegid, 0),
    ANSWERED(getresuid, 3, OUT(FIXED(0, 4), FIXED(1, 4), FIXED(2, 4))),
    ANSWERED(getresgid, 3, OUT(FIXED(0, 4), FIXED(1, 4), FIXED(2, 4))),
    ANSWERED(getgroups, 2, OUT(RESULT(1, 4, 0))),
    ANSWERED(setuid, 1),
    ANSWERED(setgid, 1),
    ANSWERED(setreuid, 2),
    ANSWERED(setregid, 2),
    ANSWERED(setresuid, 3),
    ANSWERED(setresgid, 3),
    ANSWERED(setgroups, 2),
    ANSWERED(setfsuid, 1),
    ANSWERED(setfsgid, 1),
    ANSWERED(personality, 1),
    ANSWERED(getpriority, 2),
    ANSWERED(setpriority, 3),
    ANSWERED(getrlimit, 2, OUT(FIXED(1, RLIMIT))),
    ANSWERED(setrlimit, 2),
    ANSWERED(prlimit64, 4, OUT(FIXED(3, RLIMIT))),
    ANSWERED(getcpu, 3, OUT(FIXED(0, 4), FIXED(1, 4))),
    ANSWERED(sched_getaffinity, 3, OUT(RESULT(2, 1, 1))),
    ANSWERED(sched_setaffinity, 3),
    ANSWERED(sched_getscheduler, 1),
    ANSWERED(sched_setscheduler, 3),
    ANSWERED(sched_getparam, 2, OUT(FIXED(1, 4))),
    ANSWERED(sched_setparam, 2),
    ANSWERED(sched_get_priority_max, 1),
    ANSWERED(sched_get_priority_min, 1),
    ANSWERED(sched_rr_get_interval, 2, OUT(FIXED(1, TIMESPEC))),
    ANSWERED(sched_setattr, 3),
    ANSWERED(sched_getattr, 4, OUT(TIMES(1, 2, 1))),
    ANSWERED(ioprio_set, 3),
    ANSWERED(ioprio_get, 2),

    /* ---- time */
    ANSWERED(clock_gettime, 2, OUT(FIXED(1, TIMESPEC))),
    ANSWERED(clock_getres, 2, OUT(FIXED(1, TIMESPEC))),
    ANSWERED(gettimeofday, 2, OUT(FIXED(0, TIMEVAL), FIXED(1, 8))),
    ANSWERED(time, 1, OUT(FIXED(0, 8))),
    ANSWERED(adjtimex, 1, OUT(FIXED(0, TIMEX))),
    ANSWERED(nanosleep, 2, WAITS_ALWAYS, OUT(FIXED(1, TIMESPEC))),
    ANSWERED(clock_nanosleep, 4, WAITS_ALWAYS, OUT(FIXED(3, TIMESPEC))),

    /* ---- children: those of a replayed rank do not exist */
    ANSWERED(wait4, 4, WAITS, OUT(FIXED(1, 4), FIXED(3, RUSAGE))),
    ANSWERED(waitid, 5, WAITS, OUT(FIXED(2, SIGINFO), FIXED(4, RUSAGE))),
    ANSWERED(fork, 0),
    ANSWERED(vfork, 0),
    ANSWERED(clone, 5),
    ANSWERED(clone3, 2),

    /* ---- memory */
    MEMORY(mmap, 6),
    MEMORY(munmap, 2),
    MEMORY(mprotect, 3),
    MEMORY(mremap, 5),
    MEMORY(brk, 1),
    MEMORY(madvise, 3),
    ANSWERED(msync, 3),
    ANSWERED(mincore, 3),
    ANSWERED(mlock, 2),
    ANSWERED(mlock2, 3),
    ANSWERED(munlock, 2),
    ANSWERED(mlockall, 1),
    ANSWERED(munlockall, 0),
    ANSWERED(mbind, 6),
    ANSWERED(set_mempolicy, 3),
    ANSWERED(get_mempolicy, 5, OUT(FIXED(0, 4), BITS(1, 2))),
    ANSWERED(move_pages, 6, OUT(TIMES(4, 1, 4))),

    /* ---- signals */
    SIGNAL(kill, 2),
    SIGNAL(tkill, 2),
    SIGNAL(tgkill, 3),
    SIGNAL(rt_sigqueueinfo, 3),
    SIGNAL(rt_tgsigqueueinfo, 4),
    PASSED(rt_sigaction, 4),
    PASSED(rt_sigprocmask, 4),
    PASSED(rt_sigreturn, 0),
    PASSED(sigaltstack, 2),
    ALONE(rt_sigpending, 2, OUT(FIXED(0, 8))),
    ALONE(rt_sigsuspend, 2, WAITS, MASK(0)),
    ALONE(rt_sigtimedwait, 4, WAITS, OUT(FIXED(1, SIGINFO))),
    ALONE(pause, 0, WAITS),
    ALONE(alarm, 1),
    ALONE(setitimer, 3, OUT(FIXED(2, ITIMER))),
    ALONE(getitimer, 2, OUT(FIXED(1, ITIMER))),
    ALONE(timer_create, 3, OUT(FIXED(2, 4))),
    ALONE(timer_settime, 4, OUT(FIXED(3, ITIMER))),
    ALONE(timer_gettime, 2, OUT(FIXED(1, ITIMER))),
    ALONE(timer_getoverrun, 1),
    ALONE(timer_delete, 1),

    /* ---- threads, and the end. Numbers: the application has those of the stub (pid.c) */
    ALONE(getpid, 0),
    ALONE(gettid, 0),
    ALONE(futex, 2, WAITS), /* other arguments: numbers of threads, some */
    PASSED(sched_yield, 0),
    PASSED(set_robust_list, 2),
    PASSED(get_robust_list, 3),
    PASSED(set_tid_address, 1),
    PASSED(rseq, 4),
    PASSED(membarrier, 3),
    PASSED(arch_prctl, 2),
    PASSED(prctl, 5),
    PASSED(restart_syscall, 0),
    PASSED(exit, 1),
    PASSED(exit_group, 1),

    /* ---- what no replay can answer */
    REFUSED(shmget), REFUSED(shmat), REFUSED(shmctl), REFUSED(execve), REFUSED(semctl),
    REFUSED(shmdt), REFUSED(msgget), REFUSED(msgsnd), REFUSED(msgrcv), REFUSED(msgctl),
    REFUSED(ptrace), REFUSED(syslog), REFUSED(capget), REFUSED(capset), REFUSED(vhangup),
    REFUSED(modify_ldt), REFUSED(pivot_root), REFUSED(chroot), REFUSED(acct),
    REFUSED(settimeofday), REFUSED(mount), REFUSED(umount2), REFUSED(swapon), REFUSED(swapoff),
    REFUSED(reboot), REFUSED(sethostname), REFUSED(setdomainname), REFUSED(iopl), REFUSED(ioperm),
    REFUSED(init_module), REFUSED(delete_module), REFUSED(quotactl), REFUSED(set_thread_area),
    REFUSED(io_setup), REFUSED(io_destroy), REFUSED(io_getevents), REFUSED(io_submit),
    REFUSED(io_cancel), REFUSED(get_thread_area), REFUSED(lookup_dcookie),
    REFUSED(remap_file_pages), REFUSED(clock_settime), REFUSED(mq_notify), REFUSED(mq_getsetattr),
    REFUSED(kexec_load), REFUSED(add_key), REFUSED(request_key), REFUSED(keyctl),
    REFUSED(migrate_pages), REFUSED(unshare), REFUSED(vmsplice), REFUSED(perf_event_open),
    REFUSED(recvmmsg), REFUSED(fanotify_init), REFUSED(fanotify_mark), REFUSED(name_to_handle_at),
    REFUSED(open_by_handle_at), REFUSED(clock_adjtime), REFUSED(sendmmsg), REFUSED(setns),
    REFUSED(process_vm_readv), REFUSED(process_vm_writev), REFUSED(kcmp), REFUSED(finit_module),
    REFUSED(seccomp), REFUSED(kexec_file_load), REFUSED(bpf), REFUSED(execveat),
    REFUSED(userfaultfd), REFUSED(pkey_mprotect), REFUSED(pkey_alloc), REFUSED(pkey_free),
    REFUSED(io_pgetevents), REFUSED(pidfd_send_signal), REFUSED(io_uring_setup),
    REFUSED(io_uring_enter), REFUSED(io_uring_register), REFUSED(open_tree), REFUSED(move_mount),
    REFUSED(fsopen), REFUSED(fsconfig), REFUSED(fsmount), REFUSED(fspick), REFUSED(pidfd_open),
    REFUSED(pidfd_getfd), REFUSED(process_madvise), REFUSED(mount_setattr), REFUSED(quotactl_fd),
    REFUSED(landlock_create_ruleset), REFUSED(landlock_add_rule), REFUSED(landlock_restrict_self),
    REFUSED(memfd_secret), REFUSED(process_mrelease), REFUSED(futex_waitv),
    REFUSED(set_mempolicy_home_node),
};

#define NROWS (sizeof rows / sizeof rows[0])

const struct system_row *system_row(uint64_t number)
{
    return number < NROWS && rows[number].kind != SYSTEM_UNKNOWN ? &rows[number] : NULL;
}

const char *system_name(uint64_t number)
{
    if (number == SYSTEM_SIGNALLED)
        return "a signal";
    if (number == SYSTEM_INSTRUCTION)
        return "rdtsc/rdrand/cpuid";
    if (number == SYSTEM_CODE)
        return "code replaced";
    if (number == SYSTEM_SCHEDULE)
        return "a turn";
    return number < NROWS && rows[number].name ? rows[number].name : "a system call";
}
