/* SPDX-License-Identifier: MIT */
/* The server that runs a program again and again, once for each plan, and the allocations of the program. */
#include "tests/seam/seam.h"

#include <errno.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Plans come from one and results go to the other; the program need not have them. */
#define PLANS 197
#define RESULTS 198

/* A run takes milliseconds. */
#define MOST_SECONDS 60

seam_plan seam_plan_now;
seam_counts *seam_counted;

bool seam_fails(seam_kind kind, long number)
{
    const seam_plan *plan = &seam_plan_now;
    static atomic_long failing;
    long n;

    if (!seam_counted)
        return false;
    n = ++*(kind == SEAM_CALL ? &seam_counted->n_calls : &seam_counted->n_allocations);
    if ((long)kind != plan->kind || n < plan->at)
        return false;
    if (n == plan->at)
        failing = number;
    else if (!plan->for_ever || !(number == failing || (plan->for_ever == 2 && seam_writes(number))))
        return false;
    seam_counted->n_failed++;
    return true;
}

/* --- allocations: those of libc and of every library come here too --- */

// NOLINTBEGIN(bugprone-reserved-identifier): names of glibc
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *p);
// NOLINTEND(bugprone-reserved-identifier)

static void *held(void *p)
{
    if (p && seam_counted)
        seam_counted->held_blocks++;
    return p;
}

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t size)
{
    return seam_fails(SEAM_ALLOCATION, 0) ? no_memory() : held(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    return seam_fails(SEAM_ALLOCATION, 0) ? no_memory() : held(__libc_calloc(n, size));
}

void *realloc(void *old, size_t size)
{
    if (!old)
        return malloc(size);
    return seam_fails(SEAM_ALLOCATION, 0) ? no_memory() : __libc_realloc(old, size);
}

void free(void *p)
{
    if (p && seam_counted)
        seam_counted->held_blocks--;
    __libc_free(p);
}

/* --- the name service, which in glibc dies without memory, and keeps what it has read --- */

int getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size, struct passwd **found)
{
    static char home[] = "/nonexistent";

    (void)uid, (void)buffer, (void)size;
    *entry = (struct passwd){.pw_dir = home};
    *found = entry;
    return 0;
}

/* --- one run after the other --- */

static bool read_plan(seam_plan *plan)
{
    return read(PLANS, plan, sizeof *plan) == sizeof *plan;
}

/* In the new process: back to where the program begins. */
static void begin(seam_counts *counts, const seam_plan *plan)
{
    static char buffer[BUFSIZ];

    setvbuf(stdout, buffer, _IOFBF, sizeof buffer); // or libc allocates one and keeps it
    close(PLANS);
    close(RESULTS);
    seam_plan_now = *plan;
    alarm(MOST_SECONDS);
    if (!seam_trap()) {
        perror("seam: seccomp");
        _exit(77);
    }
    seam_counted = counts;
}

static void tell(const seam_counts *c, int how)
{
    dprintf(RESULTS, "%d %ld %ld %ld %ld %ld\n", WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how), c->n_allocations, c->n_calls,
            c->held_blocks, c->held_descriptors, c->n_failed);
}

/* Runs when all libraries are there and the program has not begun. */
__attribute__((constructor)) static void serve(void)
{
    seam_counts *counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    seam_plan plan;

    if (counts == MAP_FAILED)
        _exit(77);
    while (read_plan(&plan)) {
        int how = 0;
        pid_t child;
        *counts = (seam_counts){0};
        child = fork();
        if (child == 0) {
            begin(counts, &plan);
            return;
        }
        if (child < 0 || waitpid(child, &how, 0) != child)
            _exit(77);
        tell(counts, how);
    }
    _exit(0);
}
