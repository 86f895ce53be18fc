/* SPDX-License-Identifier: MIT */
/* Open, answer, close. */
#include "format/base/error.h"
#include "lib/mount/mount.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MOST_THREADS 64
#define MOST_UNASKED 12 // each has some 3 MiB: with those of ahead.c within 64 MiB, on however many CPUs

/* While a mount is served. */
typedef struct server {
    lorakit_mount *mount;
    lk_watch *watch; /* or NULL */
    int ended;       /* an eventfd: a thread found that the mount is gone */
    size_t n_threads;
    pthread_t threads[MOST_THREADS];
    uint64_t n_generations;
} server;

void lk_mount_report(lorakit_mount *mount, const char *format, ...)
{
    char text[2048];
    va_list args;

    if (!mount->options.report)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&mount->reporting);
    mount->options.report(mount->options.report_ctx, text);
    pthread_mutex_unlock(&mount->reporting);
}

static lorafmt_status fill(lorakit_mount *mount, const char *manifest, const char *directory, lorafmt_error *err)
{
    lk_generation *first;

    if (!(mount->manifest = lk_place_absolute(manifest)))
        return lf_fail_os(err, errno, manifest, "cannot open");
    if (mount->options.scenario && !(mount->scenario = strdup(mount->options.scenario)))
        return lf_no_memory(err);
    LF_TRY(lk_place_find(directory, &mount->directory, err));
    LF_TRY(lk_generation_open(mount, 0, &first, err));
    lk_generation_publish(mount, first);
    return lk_place_mount(mount, err);
}

static void free_reader(void *reader)
{
    lorafmt_reader_free(reader);
}

lorafmt_status lorakit_mount_open(const char *manifest, const char *directory, const lorakit_mount_options *options,
                                  lorakit_mount **out, lorafmt_error *err)
{
    static const lorakit_mount_options defaults = {.struct_size = sizeof defaults};
    const lorakit_mount_options *o = options ? options : &defaults;
    lorakit_mount *mount;
    lorafmt_status st;

    *out = NULL;
    LF_TRY(lf_check_struct_size(o->struct_size, sizeof *o, err));
    if (!(mount = calloc(1, sizeof *mount)))
        return lf_no_memory(err);
    mount->options = *o;
    pthread_mutex_init(&mount->lock, NULL);
    pthread_mutex_init(&mount->reporting, NULL);
    if (pthread_key_create(&mount->reader, free_reader))
        abort();
    st = fill(mount, manifest, directory, err);
    if (st)
        lorakit_mount_close(mount);
    else
        *out = mount;
    return st;
}

void lorakit_mount_close(lorakit_mount *mount)
{
    if (!mount)
        return;
    if (mount->mounted)
        fuse_session_unmount(mount->session);
    if (mount->session)
        fuse_session_destroy(mount->session);
    while (mount->generations) {
        lk_generation *next = mount->generations->next;
        lk_generation_free(mount->generations);
        mount->generations = next;
    }
    pthread_key_delete(mount->reader);
    pthread_mutex_destroy(&mount->lock);
    pthread_mutex_destroy(&mount->reporting);
    free(mount->manifest);
    free(mount->directory);
    free(mount->scenario);
    free(mount);
}

static void free_buffer(void *buffer)
{
    free(((struct fuse_buf *)buffer)->mem);
}

/* Only while it waits can a thread be cancelled. */
static int receive(struct fuse_session *session, struct fuse_buf *buffer)
{
    int n;

    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    n = fuse_session_receive_buf(session, buffer);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    return n;
}

static void *answer_requests(void *ctx)
{
    const server *s = ctx;
    struct fuse_session *session = s->mount->session;
    struct fuse_buf buffer = {0};
    const uint64_t one = 1;
    ssize_t told;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cleanup_push(free_buffer, &buffer);
    while (!fuse_session_exited(session)) {
        const int n = receive(session, &buffer);
        if (n > 0)
            fuse_session_process_buf(session, &buffer);
        else if (n != -EINTR && n != -EAGAIN)
            break; // 0: unmounted
    }
    pthread_cleanup_pop(1);
    told = write(s->ended, &one, sizeof one);
    (void)told; // a counter has room for all threads
    return NULL;
}

static size_t default_threads(void)
{
    const long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t n = (size_t)(n_cpus > 0 ? n_cpus : 1) + 2;

    return n < MOST_UNASKED ? n : MOST_UNASKED;
}

static lorafmt_status start_threads(server *s, lorafmt_error *err)
{
    size_t n = s->mount->options.n_threads ? s->mount->options.n_threads : default_threads();
    sigset_t all, before;
    int failed = 0;

    n = n < MOST_THREADS ? n : MOST_THREADS;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); // signals are for whoever called
    s->mount->ahead = lk_ahead_open(s->mount);
    while (s->n_threads < n && !(failed = pthread_create(&s->threads[s->n_threads], NULL, answer_requests, s)))
        s->n_threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->n_threads ? LORAFMT_OK : lf_fail_os(err, failed, s->mount->directory, "starting threads");
}

static void stop_threads(const server *s)
{
    for (size_t i = 0; i < s->n_threads; i++)
        pthread_cancel(s->threads[i]);
    for (size_t i = 0; i < s->n_threads; i++)
        pthread_join(s->threads[i], NULL);
    lk_ahead_close(s->mount->ahead);
    s->mount->ahead = NULL;
}

static void read_again(server *s)
{
    lk_generation *next;
    char text[2048];
    lorafmt_error err;

    if (lk_generation_open(s->mount, s->n_generations, &next, &err)) {
        lorafmt_error_format(&err, text, sizeof text);
        lk_mount_report(s->mount, "%s; what was there before stays", text);
        return;
    }
    s->n_generations++;
    lk_generation_publish(s->mount, next);
    lk_mount_report(s->mount, "%s was read again: %zu %s", s->mount->manifest, next->n_shown,
                    next->n_shown == 1 ? "directory" : "directories");
}

static bool is_told_to_stop(server *s, int control)
{
    char what;

    if (read(control, &what, 1) != 1 || what != 'r')
        return true;
    read_again(s);
    return false;
}

static lorafmt_status serve(server *s, int control, lorafmt_error *err)
{
    struct pollfd polled[] = {{.fd = control, .events = POLLIN},
                              {.fd = s->ended, .events = POLLIN},
                              {.fd = -1, .events = POLLIN}};

    if (s->watch)
        polled[2].fd = lk_watch_fd(s->watch);
    for (;;) {
        if (s->watch && lk_watch_changed(s->watch))
            read_again(s);
        if (poll(polled, sizeof polled / sizeof *polled, -1) < 0) {
            if (errno != EINTR)
                return lf_fail_os(err, errno, s->mount->directory, "waiting");
            continue;
        }
        if (polled[1].revents || (polled[0].revents && is_told_to_stop(s, control)))
            return LORAFMT_OK;
    }
}

/* While the manifest is read again, and a base hashed: who says anything does not wait for that. */
static bool nobody_speaks(void *ctx, uint64_t done, uint64_t total)
{
    const int *control = ctx;
    struct pollfd polled = {.fd = *control, .events = POLLIN};

    (void)done, (void)total;
    return poll(&polled, 1, 0) == 0;
}

static void watch_manifest(server *s)
{
    const lk_generation *first = s->mount->current;
    char text[2048];
    lorafmt_error err;

    if (lk_watch_open(s->mount->manifest, lorakit_scenarios_lock_path(first->set), &first->since, &s->watch, &err)) {
        lorafmt_error_format(&err, text, sizeof text);
        lk_mount_report(s->mount, "%s: changes of the manifest are only seen when told (SIGHUP)", text);
    }
}

lorafmt_status lorakit_mount_serve(lorakit_mount *mount, int control, lorafmt_error *err)
{
    server s = {.mount = mount, .ended = eventfd(0, EFD_CLOEXEC), .n_generations = 1};
    lorafmt_status st;

    if (s.ended < 0)
        return lf_fail_os(err, errno, mount->directory, "making an event");
    mount->options.progress = nobody_speaks;
    mount->options.progress_ctx = &control;
    watch_manifest(&s);
    st = start_threads(&s, err);
    if (!st)
        st = serve(&s, control, err);
    stop_threads(&s);
    lk_watch_close(s.watch);
    close(s.ended);
    return st;
}
