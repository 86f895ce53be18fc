/* SPDX-License-Identifier: MIT */
/* Threads that stay: for work that comes often and is short, so that starting them for each would cost more than it is. */
#ifndef LF_THREADS_TEAM_H
#define LF_THREADS_TEAM_H

#include "lorafmt/error.h"

#include <stddef.h>

typedef struct lf_team lf_team;

/* n_threads >= 1, the one that calls lf_team_run() among them. NO_MEMORY when not all of them can be started. */
lorafmt_status lf_team_new(unsigned n_threads, lf_team **out, lorafmt_error *err);
void lf_team_free(lf_team *team);

/* A lorafmt_executor whose ctx is the team. Allocates nothing. */
void lf_team_run(void *team, size_t n, void (*work)(void *ctx, size_t i), void *ctx);

#endif
