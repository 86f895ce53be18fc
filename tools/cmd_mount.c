/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/message.h"
#include "tools/serving.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define NAME "mount"

typedef struct mount_args {
    const char *scenario;
    bool foreground, allow_other, quiet;
    unsigned n_threads;
    limit_args trust;
} mount_args;

static const option mount_options[] = {
    {"foreground", 'f', NULL, OPTION_FLAG, offsetof(mount_args, foreground),
     "do not go into the background, and say what happens on stderr; for systemd and containers"},
    {"scenario", 0, "NAME", OPTION_TEXT, offsetof(mount_args, scenario), "show this one alone, as DIR itself"},
    {"allow-other", 0, NULL, OPTION_FLAG, offsetof(mount_args, allow_other),
     "let other users read, too, as the permissions of the base's files say (fuse.conf may have to allow it)"},
    {"threads", 0, "N", OPTION_COUNT, offsetof(mount_args, n_threads), "threads that compute what is read"},
    LIMIT_OPTIONS(mount_args, trust),
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(mount_args, quiet), "print nothing but errors"},
    {0},
};

/* The parent leaves once it is known to work; what is mounted stays with the child. */
static int go_into_background(serving *s)
{
    const pid_t pid = fork();
    int null;

    if (pid < 0)
        return message_error("cannot go into the background: %s", strerror(errno));
    if (pid > 0) {
        fflush(stdout);
        _exit(EXIT_DONE);
    }
    openlog("lorapack", LOG_PID, LOG_DAEMON);
    s->in_background = true;
    setsid();
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || chdir("/"))
        return message_error("cannot go into the background: %s", strerror(errno));
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close(null);
    return EXIT_DONE;
}

static int mount_and_serve(serving *s, const mount_args *args, char *const *inputs)
{
    lorakit_mount_options options = {.scenario = args->scenario,
                                     .allow_other = args->allow_other,
                                     .unmount_on_death = true,
                                     .n_threads = args->n_threads};
    int code = serving_open(s, NAME, inputs[0], inputs[1], &args->trust, &options);

    if (code != EXIT_DONE)
        return code;
    serving_catch(s, SIGINT, 's');
    serving_catch(s, SIGTERM, 's');
    serving_catch(s, SIGHUP, 'r');
    if (!args->quiet)
        print_line(stdout, "%s: mounted; fusermount3 -u %s takes it away", inputs[1], inputs[1]);
    fflush(stdout);
    if (!args->foreground && (code = go_into_background(s)))
        return code;
    return serving_run(s);
}

static int run_mount(const void *args_, size_t n_inputs, char *const *inputs)
{
    const mount_args *args = args_;
    serving s = {.quiet = args->quiet, .control = {-1, -1}};
    int code;

    (void)n_inputs;
    code = mount_and_serve(&s, args, inputs);
    serving_close(&s);
    return code;
}

const command cmd_mount = {
    .name = NAME,
    .usage = "mount MANIFEST DIR [options]",
    .summary = "show every scenario as a model directory that is not stored",
    .about =
        "Mount the scenarios of a manifest on an empty directory: DIR/SCENARIO is a whole model directory, whose files are computed "
        "where they are read, and DIR/base is the base. Any program that reads files can use it. A manifest that changes is read "
        "again: files that are open keep their bytes, others are new; with an error in it, what was there stays. SIGHUP has it read "
        "again as well.",
    .example = "lorapack mount lorafmt.yaml /mnt/models\n"
               "sha256sum /mnt/models/*/model.safetensors\n"
               "fusermount3 -u /mnt/models\n",
    .options = mount_options,
    .args_size = sizeof(mount_args),
    .min_inputs = 2,
    .max_inputs = 2,
    .run = run_mount,
};
