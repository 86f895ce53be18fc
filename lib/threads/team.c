/* SPDX-License-Identifier: MIT */
#include "lib/threads/team.h"

#include "format/base/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* Looks at what is waited for before a thread sleeps: some ten microseconds, about what waking one takes. */
#define N_LOOKS 256

struct lf_team {
    atomic_uint n_jobs;    // begun so far; those who wait look at it before they sleep
    atomic_size_t next;    // items of this job that were taken
    atomic_uint n_working; // helpers that are at it
    size_t n;
    void (*work)(void *ctx, size_t i);
    void *ctx;

    pthread_mutex_t lock; // guards beginning and ending: n_jobs and n_working change under it
    pthread_cond_t begun, ended;
    bool stop;
    unsigned n_helpers;
    pthread_t helpers[];
};

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_items(lf_team *t)
{
    size_t i;

    while ((i = atomic_fetch_add(&t->next, 1)) < t->n)
        t->work(t->ctx, i);
}

/* Wait for a job after the last one that was seen. false when there will be none. */
static bool wait_for_job(lf_team *t, unsigned *seen)
{
    for (unsigned looks = 0; looks < N_LOOKS && atomic_load(&t->n_jobs) == *seen; looks++)
        pause_briefly();
    pthread_mutex_lock(&t->lock);
    while (!t->stop && atomic_load(&t->n_jobs) == *seen)
        pthread_cond_wait(&t->begun, &t->lock);
    *seen = atomic_load(&t->n_jobs);
    if (!t->stop)
        atomic_fetch_add(&t->n_working, 1);
    pthread_mutex_unlock(&t->lock);
    return !t->stop;
}

static void leave_job(lf_team *t)
{
    pthread_mutex_lock(&t->lock);
    if (atomic_fetch_sub(&t->n_working, 1) == 1)
        pthread_cond_signal(&t->ended);
    pthread_mutex_unlock(&t->lock);
}

static void *help(void *arg)
{
    lf_team *t = arg;
    unsigned seen = 0;

    while (wait_for_job(t, &seen)) {
        take_items(t);
        leave_job(t);
    }
    return NULL;
}

/* A helper that comes late finds every item taken; nobody may be at it when the next job is begun. */
static void wait_for_helpers(lf_team *t)
{
    for (unsigned looks = 0; looks < N_LOOKS && atomic_load(&t->n_working); looks++)
        pause_briefly();
    pthread_mutex_lock(&t->lock);
    while (atomic_load(&t->n_working))
        pthread_cond_wait(&t->ended, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

void lf_team_run(void *team, size_t n, void (*work)(void *ctx, size_t i), void *ctx)
{
    lf_team *t = team;

    pthread_mutex_lock(&t->lock);
    while (atomic_load(&t->n_working)) // one that came late to the job before
        pthread_cond_wait(&t->ended, &t->lock);
    t->n = n;
    t->work = work;
    t->ctx = ctx;
    atomic_store(&t->next, 0);
    atomic_fetch_add(&t->n_jobs, 1);
    pthread_cond_broadcast(&t->begun);
    pthread_mutex_unlock(&t->lock);
    take_items(t);
    wait_for_helpers(t);
}

lorafmt_status lf_team_new(unsigned n_threads, lf_team **out, lorafmt_error *err)
{
    lf_team *t = calloc(1, sizeof *t + n_threads * sizeof *t->helpers);

    *out = NULL;
    if (!t)
        return lf_no_memory(err);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->begun, NULL);
    pthread_cond_init(&t->ended, NULL);
    while (t->n_helpers + 1 < n_threads) {
        if (pthread_create(&t->helpers[t->n_helpers], NULL, help, t) != 0) {
            lf_team_free(t);
            return lf_no_memory(err);
        }
        t->n_helpers++;
    }
    *out = t;
    return LORAFMT_OK;
}

void lf_team_free(lf_team *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->begun);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < t->n_helpers; i++)
        pthread_join(t->helpers[i], NULL);
    pthread_cond_destroy(&t->begun);
    pthread_cond_destroy(&t->ended);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
