/* SPDX-License-Identifier: MIT */
/*
 * Stands between a program and its machine: loaded before everything else (LD_PRELOAD) it sees each allocation and each system call,
 * lets one of them fail as it is told, and records what the calls do to files. tests/seam.py starts programs with it.
 */
#ifndef TESTS_SEAM_H
#define TESTS_SEAM_H

#include <stdatomic.h>
#include <stdbool.h>

typedef enum seam_kind { SEAM_NONE, SEAM_ALLOCATION, SEAM_CALL } seam_kind;

/*
 * What fails: call number `at` of a kind, counted from 1. for_ever 1: and all later ones of its name; 2: and all that write to files
 * or sync them.
 */
typedef struct seam_plan {
    long kind, at, for_ever;
    long error; /* an errno; 0: a read or a write does half of what it is asked */
    long record;
} seam_plan;

/* What came of it; in memory that outlives the process. */
typedef struct seam_counts {
    atomic_long n_allocations, n_calls;
    atomic_long held_blocks, held_descriptors;
    atomic_long n_failed;
} seam_counts;

extern seam_plan seam_plan_now;
extern seam_counts *seam_counted; /* NULL before the program starts */

/* Count an allocation, or a system call by its number: is it to fail? */
bool seam_fails(seam_kind kind, long number);

/* From here on every system call but those without faults comes to us first. False, with errno, when the kernel has no seccomp. */
bool seam_trap(void);

/* Whether a system call puts something on the disk: what a broken one refuses. */
bool seam_writes(long number);

/* A system call by number: as the kernel answers, a negative errno for a failure. Not seen by the trap. */
long seam_call(long number, const long a[6]);

/* A call as it went, into the record. */
void seam_record(const char *name, long number, const long a[6], long result);

/* Where a record goes. */
#define SEAM_RECORD 199

#endif
