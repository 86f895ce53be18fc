/* SPDX-License-Identifier: MIT */
#include "tools/serving.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define NOT_OPEN (-1)

/* What a signal handler needs: it has no other way to know. */
static int told = NOT_OPEN;
static char letters[NSIG];

void serving_tell(int control, char letter)
{
    const int before = errno;
    const ssize_t n = write(control, &letter, 1);

    (void)n; // a full pipe has words enough
    errno = before;
}

static void on_signal(int signal)
{
    serving_tell(told, letters[signal]);
}

void serving_catch(const serving *s, int signal, char letter)
{
    struct sigaction action;

    told = s->control[1];
    letters[signal] = letter;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

static void report(void *ctx, const char *text)
{
    const serving *s = ctx;

    if (s->in_background)
        syslog(LOG_NOTICE, "%s", text);
    else if (!s->quiet)
        message_note("%s", text);
}

static void report_problem(void *ctx, const char *scenario, const char *adapter, const char *target, const char *text)
{
    (void)ctx;
    print_line(stderr, "  %s: %s: %s: %s", scenario, adapter, target, text);
}

int serving_open(serving *s, const char *verb, const char *manifest, const char *directory, const limit_args *trust,
                 lorakit_mount_options *options)
{
    lorafmt_error err;
    lorafmt_status st;
    progress p;
    int code;

    if (pipe2(s->control, O_CLOEXEC | O_NONBLOCK)) {
        s->control[0] = s->control[1] = NOT_OPEN;
        return message_error("cannot make a pipe: %s", strerror(errno));
    }
    if ((code = limits_parse(verb, trust, &s->limits)))
        return code;
    options->struct_size = sizeof *options;
    options->report = report;
    options->report_ctx = s;
    options->problem = report_problem;
    options->progress = progress_update;
    options->progress_ctx = &p;
    options->limits = trust->limits.n ? &s->limits : NULL;
    options->paranoid = trust->paranoid;
    progress_start(&p, "reading the base", s->quiet);
    st = lorakit_mount_open(manifest, directory, options, &s->mount, &err);
    progress_end(&p);
    if (st == LORAFMT_CANCELLED || !progress_update(&p, p.done, p.total)) // of which nobody asks when nothing is hashed
        return message_error("%s: interrupted", manifest);
    return st ? message_failure(&err, manifest) : EXIT_DONE;
}

int serving_run(serving *s)
{
    char text[sizeof(lorafmt_error)];
    lorafmt_error err;

    if (lorakit_mount_serve(s->mount, s->control[0], &err) == LORAFMT_OK)
        return EXIT_DONE;
    if (!s->in_background)
        return message_failure(&err, NULL);
    lorafmt_error_format(&err, text, sizeof text);
    syslog(LOG_ERR, "%s", text);
    return EXIT_FAILED;
}

void serving_close(serving *s)
{
    lorakit_mount_close(s->mount);
    for (int i = 0; i < 2; i++)
        if (s->control[i] != NOT_OPEN)
            close(s->control[i]);
}
