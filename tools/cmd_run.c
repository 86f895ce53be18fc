/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/message.h"
#include "tools/progress.h"
#include "tools/serving.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "run"
#define MODEL "{model}"

enum {
    EXIT_NOT_STARTED = 126,
    EXIT_NO_COMMAND = 127,
    EXIT_SIGNALLED = 128, /* plus the signal, as shells have it */
};

typedef struct run_args {
    unsigned n_threads;
    bool quiet;
    limit_args trust;
} run_args;

static const option run_options[] = {
    {"threads", 0, "N", OPTION_COUNT, offsetof(run_args, n_threads), "threads that compute what is read"},
    LIMIT_OPTIONS(run_args, trust),
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(run_args, quiet), "print nothing but errors"},
    {0},
};

/* The command that runs, for signal handlers. */
static volatile sig_atomic_t child_status;
static volatile sig_atomic_t child;
static int child_ended;

static void on_child(int signal)
{
    const int before = errno;
    int status;

    (void)signal;
    if (child > 0 && waitpid((pid_t)child, &status, WNOHANG) == (pid_t)child) {
        child = 0;
        child_status = WIFSIGNALED(status) ? EXIT_SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
        serving_tell(child_ended, 's');
    }
    errno = before;
}

static void pass_on(int signal)
{
    if (child > 0)
        kill((pid_t)child, signal);
}

/* Signals that are handled while the command runs, and whether whoever started us had them ignored. */
static struct handled {
    int signal;
    bool ignored;
} handled[] = {{.signal = SIGCHLD}, {.signal = SIGTERM}, {.signal = SIGHUP}, {.signal = SIGINT}, {.signal = SIGQUIT}};

static void set_handler(int signal, void (*handler)(int), int flags)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

/* What nohup, or a shell for what runs behind it, had us ignore stays ignored. */
static void handle_signals(void)
{
    struct sigaction before;

    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++) {
        const int signal = handled[i].signal;
        handled[i].ignored = sigaction(signal, NULL, &before) == 0 && before.sa_handler == SIG_IGN;
        if (signal == SIGCHLD)
            set_handler(signal, on_child, SA_NOCLDSTOP);
        else if (!handled[i].ignored)
            set_handler(signal, signal == SIGTERM || signal == SIGHUP ? pass_on : SIG_IGN, 0);
    }
}

static void restore_signals(void)
{
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++)
        set_handler(handled[i].signal, handled[i].ignored ? SIG_IGN : SIG_DFL, 0);
    set_handler(SIGXFSZ, SIG_DFL, 0); // which all of lorapack ignores
}

/* Nobody but the command, and what it starts, sees what is mounted from here on. */
static void enter_own_namespace(void)
{
    if (unshare(CLONE_NEWNS) == 0)
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* An argument with every {model} replaced, malloc()ed. */
static char *fill_in(const char *argument, const char *directory)
{
    size_t size = strlen(argument) + 1;
    const char *at;
    char *filled, *to;

    for (at = argument; (at = strstr(at, MODEL)); at += strlen(MODEL))
        size += strlen(directory);
    if (!(filled = to = malloc(size)))
        return NULL;
    while ((at = strstr(argument, MODEL))) {
        to = mempcpy(to, argument, (size_t)(at - argument));
        to = stpcpy(to, directory);
        argument = at + strlen(MODEL);
    }
    strcpy(to, argument);
    return filled;
}

static void free_arguments(char **arguments)
{
    for (size_t i = 0; arguments && arguments[i]; i++)
        free(arguments[i]);
    free(arguments);
}

static char **fill_in_all(size_t n, char *const *words, const char *directory)
{
    char **arguments = calloc(n + 1, sizeof *arguments);

    for (size_t i = 0; arguments && i < n; i++)
        if (!(arguments[i] = fill_in(words[i], directory))) {
            free_arguments(arguments);
            return NULL;
        }
    return arguments;
}

/* In the child: only functions that may be called there. */
static void start_command(char *const *arguments, const sigset_t *mask)
{
    int failed;

    restore_signals();
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(arguments[0], arguments);
    failed = errno;
    message_error("%s: cannot be run: %s", arguments[0], strerror(failed));
    _exit(failed == ENOENT ? EXIT_NO_COMMAND : EXIT_NOT_STARTED);
}

/* Its first read waits for serving_run(). What a terminal sends, it gets itself. */
static int start(const serving *s, char *const *arguments)
{
    sigset_t all, before;
    pid_t pid;

    child_ended = s->control[1];
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    handle_signals();
    pid = fork();
    if (pid == 0)
        start_command(arguments, &before);
    child = pid > 0 ? pid : 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid < 0 ? message_error("%s: cannot be run: %s", arguments[0], strerror(errno)) : EXIT_DONE;
}

/* When the mount goes away under the command, what it reads fails, and it will end. */
static void wait_for_command(void)
{
    sigset_t ended, before;

    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, &before);
    while (child > 0)
        sigsuspend(&before);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static int run_mounted(serving *s, const run_args *args, const char *directory, size_t n_inputs, char *const *inputs)
{
    lorakit_mount_options options = {.scenario = inputs[1], .unmount_on_death = true, .n_threads = args->n_threads};
    char **arguments = fill_in_all(n_inputs - 2, inputs + 2, directory);
    int code = arguments ? serving_open(s, NAME, inputs[0], directory, &args->trust, &options) : message_no_memory();

    if (code == EXIT_DONE)
        code = start(s, arguments);
    if (code == EXIT_DONE)
        code = serving_run(s);
    free_arguments(arguments);
    lorakit_mount_close(s->mount);
    s->mount = NULL;
    wait_for_command();
    return code == EXIT_DONE ? (int)child_status : code;
}

static int run_run(const void *args_, size_t n_inputs, char *const *inputs)
{
    const run_args *args = args_;
    char directory[] = "/tmp/lorapack-XXXXXX";
    serving s = {.quiet = args->quiet, .control = {-1, -1}};
    bool has_model = false;
    int code;

    for (size_t i = 2; i < n_inputs; i++)
        has_model |= strstr(inputs[i], MODEL) != NULL;
    if (!has_model)
        return message_usage(NAME, "the command has no " MODEL ", so that it would not find the model");
    interrupt_catch();
    if (!mkdtemp(directory))
        return message_error("%s: cannot be made: %s", directory, strerror(errno));
    enter_own_namespace();
    code = run_mounted(&s, args, directory, n_inputs, inputs);
    serving_close(&s);
    rmdir(directory);
    return code;
}

const command cmd_run = {
    .name = NAME,
    .usage = "run MANIFEST SCENARIO [options] -- COMMAND ... {model} ...",
    .summary = "run a command on a scenario, which is mounted for it alone",
    .about =
        "Mount one scenario where nobody else looks (in a mount namespace of its own, where that is allowed), run a command with "
        "{model} in its arguments replaced by the model's directory, unmount, and end with the command's status; 128 and the number "
        "of the signal when one ended it, as shells have it.",
    .example = "lorapack run lorafmt.yaml legal -- python3 generate.py --model {model}\n",
    .options = run_options,
    .args_size = sizeof(run_args),
    .min_inputs = 3,
    .max_inputs = MANY_INPUTS,
    .run = run_run,
};
