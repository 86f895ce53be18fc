/* SPDX-License-Identifier: MIT */
/* Files by which others run the parts of builds: a makefile, an array job of Slurm, an indexed job of Kubernetes. */
#ifndef TOOLS_EMIT_JOBS_H
#define TOOLS_EMIT_JOBS_H

#include <stddef.h>
#include <stdio.h>

typedef enum job_engine {
    JOB_MAKE = 1,
    JOB_SLURM,
    JOB_K8S,
} job_engine;

typedef struct job_list {
    const char *manifest; /* file name, without its directory */
    const char *const *scenarios;
    size_t n_scenarios;
    unsigned parts;
    const char *image, *claim; /* of Kubernetes; NULL = a placeholder */
} job_list;

/* NULL, or why a name of a manifest cannot stand in such a file. */
const char *job_name_refused(const char *manifest);

void job_write(FILE *to, job_engine engine, const job_list *list);

#endif
