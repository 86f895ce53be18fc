/* SPDX-License-Identifier: MIT */
/* System calls, whoever makes them: seccomp turns each into a signal, whose handler does it or lets it fail. */
#include "tests/seam/seam.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/*
 * What does not come here, for it does not fail or not in a way that a program could answer: what a process does with itself, its
 * memory that is there, its threads and signals. (A new mapping does come.)
 */
static const int without_faults[] = {
    SYS_brk,
    SYS_munmap,
    SYS_mprotect,
    SYS_madvise,
    SYS_mremap,
    SYS_futex,
    SYS_rseq,
    SYS_clone,
    SYS_clone3,
    SYS_exit,
    SYS_exit_group,
    SYS_set_robust_list,
    SYS_rt_sigaction,
    SYS_rt_sigreturn,
    SYS_rt_sigprocmask,
    SYS_sigaltstack,
    SYS_getpid,
    SYS_gettid,
    SYS_tgkill,
    SYS_getrandom,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_getuid,
    SYS_geteuid,
    SYS_prlimit64,
    SYS_restart_syscall,
};

/* The names of those that do. One that is not here is told by its number, and tests/test_faults.py does not let it pass. */
static const struct {
    int number;
    const char *name;
} calls[] = {
    {SYS_close, "close"},
    {SYS_copy_file_range, "copy_file_range"},
    {SYS_faccessat, "faccessat"},
    {SYS_faccessat2, "faccessat2"},
    {SYS_fallocate, "fallocate"},
    {SYS_fchmod, "fchmod"},
    {SYS_fchown, "fchown"},
    {SYS_fcntl, "fcntl"},
    {SYS_flock, "flock"},
    {SYS_fstat, "fstat"},
    {SYS_fstatfs, "fstatfs"},
    {SYS_fsync, "fsync"},
    {SYS_ftruncate, "ftruncate"},
    {SYS_getcwd, "getcwd"},
    {SYS_getdents64, "getdents64"},
    {SYS_ioctl, "ioctl"},
    {SYS_linkat, "linkat"},
    {SYS_lseek, "lseek"},
    {SYS_mkdirat, "mkdirat"},
    {SYS_mmap, "mmap"},
    {SYS_newfstatat, "newfstatat"},
    {SYS_openat, "openat"},
    {SYS_pread64, "pread64"},
    {SYS_pwrite64, "pwrite64"},
    {SYS_read, "read"},
    {SYS_readlinkat, "readlinkat"},
    {SYS_renameat, "renameat"},
    {SYS_renameat2, "renameat2"},
    {SYS_sync_file_range, "sync_file_range"},
    {SYS_unlinkat, "unlinkat"},
    {SYS_write, "write"},
#ifdef SYS_open // an old architecture, with calls for which newer ones have only those with a directory
    {SYS_access, "access"},
    {SYS_mkdir, "mkdir"},
    {SYS_readlink, "readlink"},
    {SYS_rename, "rename"},
    {SYS_unlink, "unlink"},
#endif
};

#if defined(__x86_64__)
static long long *registers(ucontext_t *context, size_t i)
{
    static const int arguments[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9, REG_RAX};
    return &context->uc_mcontext.gregs[arguments[i]];
}
#define RESULT 6
#elif defined(__aarch64__)
static unsigned long long *registers(ucontext_t *context, size_t i)
{
    return &context->uc_mcontext.regs[i];
}
#define RESULT 0
#endif

long seam_call(long number, const long a[6])
{
    const long result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);

    return result < 0 ? -errno : result;
}

static const char *name_of(long number)
{
    static char unknown[24];

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (calls[i].number == number)
            return calls[i].name;
    snprintf(unknown, sizeof unknown, "%ld", number);
    return unknown;
}

/* Half of what a call is asked for, where it may do that. */
static long do_half(long number, const long a[6])
{
    long half[6];
    const size_t size = number == SYS_copy_file_range ? 4 : 2;

    memcpy(half, a, sizeof half);
    if (half[size] > 1)
        half[size] /= 2;
    return seam_call(number, half);
}

static bool is_sync(long number)
{
    return number == SYS_fsync || number == SYS_fdatasync || number == SYS_sync_file_range;
}

bool seam_writes(long number)
{
    return is_sync(number) || number == SYS_pwrite64 || number == SYS_ftruncate || number == SYS_fallocate ||
           number == SYS_copy_file_range;
}

/* The machine does not stop here, so nothing waits for its disk. A descriptor is closed though closing fails. */
static long do_or_fail(long number, const long a[6])
{
    const bool fails = seam_fails(SEAM_CALL, number);
    const long error = seam_plan_now.error;
    long result = 0;

    if (fails && !error)
        return do_half(number, a);
    if (fails && number != SYS_close)
        return -error;
    if (!is_sync(number))
        result = seam_call(number, a);
    return fails ? -error : result;
}

static void count_descriptors(long number, long result)
{
    if (number == SYS_close)
        seam_counted->held_descriptors--;
    else if (result >= 0 && number == SYS_openat)
        seam_counted->held_descriptors++;
}

/* What is said of faults is heard. */
static bool is_talk(long number, const long a[6])
{
    return number == SYS_write && a[0] == STDERR_FILENO;
}

static long answer(long number, const long a[6])
{
    static atomic_flag recording = ATOMIC_FLAG_INIT;
    const long result = do_or_fail(number, a);

    count_descriptors(number, result);
    if (!seam_plan_now.record)
        return result;
    while (atomic_flag_test_and_set(&recording))
        ;
    seam_record(name_of(number), number, a, result);
    atomic_flag_clear(&recording);
    return result;
}

static void trapped(int signal, siginfo_t *info, void *ucontext)
{
    const int before = errno;
    const long number = info->si_syscall;
    long a[6], result;

    (void)signal;
    for (size_t i = 0; i < 6; i++)
        a[i] = (long)*registers(ucontext, i);
    result = is_talk(number, a) ? seam_call(number, a) : answer(number, a);
    *registers(ucontext, RESULT) = (unsigned long long)result;
    errno = before;
}

#define LOAD(field, more) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field) + (more))
#define IF(test, value, then, otherwise) BPF_JUMP(BPF_JMP | (test) | BPF_K, (uint32_t)(value), then, otherwise)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)

/* libc's syscall(), by which the calls of seam_call() are known, is no longer than this. */
#define CALLER_SIZE 64

static bool filter(void)
{
    enum { N_EXEMPT = sizeof without_faults / sizeof without_faults[0] };
    const uint64_t from = (uint64_t)(uintptr_t)syscall;
    struct sock_filter code[N_EXEMPT + 10] = {
        LOAD(instruction_pointer, 4), // its upper half
        IF(BPF_JEQ, from >> 32, 0, 4),         LOAD(instruction_pointer, 0), IF(BPF_JGE, from, 0, 2),
        IF(BPF_JGE, from + CALLER_SIZE, 1, 0), RETURN(SECCOMP_RET_ALLOW),    LOAD(nr, 0),
    };
    unsigned short n = 7;
    struct sock_fprog program = {.filter = code};

    for (size_t i = 0; i < N_EXEMPT; i++)
        code[n++] = (struct sock_filter)IF(BPF_JEQ, without_faults[i], (uint8_t)(N_EXEMPT - i), 0);
    code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_TRAP);
    code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    program.len = n;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

bool seam_trap(void)
{
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_NODEFER};

    return sigaction(SIGSYS, &action, NULL) == 0 && filter();
}

/* The signal of a call cannot wait: nobody blocks it. */
static const sigset_t *without_ours(const sigset_t *set, sigset_t *room)
{
    if (!set)
        return NULL;
    *room = *set;
    sigdelset(room, SIGSYS);
    return room;
}

static int change_mask(int how, const sigset_t *set, sigset_t *old)
{
    const long a[6] = {how, (long)set, (long)old, _NSIG / 8};

    return (int)-seam_call(SYS_rt_sigprocmask, a);
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t room;

    return change_mask(how, without_ours(set, &room), old);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    errno = pthread_sigmask(how, set, old);
    return errno ? -1 : 0;
}
