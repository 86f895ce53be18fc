/* SPDX-License-Identifier: MIT */
/* The program: finds the command, parses its options, runs it. */
#include "tools/blas.h"
#include "tools/command.h"
#include "tools/message.h"
#include "tools/option.h"

#include "lorafmt/version.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int run_help(const void *args, size_t n_inputs, char *const *inputs);
static int run_version(const void *args, size_t n_inputs, char *const *inputs);

typedef struct no_args {
    char none;
} no_args;

static const option no_options[] = {{0}};

static const command cmd_help = {
    .name = "help",
    .usage = "help [COMMAND]",
    .summary = "what lorapack or a command does",
    .about = "Print what a command does and which options it takes, or the list of commands.",
    .example = "lorapack help merge\n",
    .options = no_options,
    .args_size = sizeof(no_args),
    .max_inputs = 1,
    .run = run_help,
};

static const command cmd_version = {
    .name = "version",
    .usage = "version",
    .summary = "print the version",
    .about = "Print the release of this program, of the library it runs with, and of the format it writes.",
    .example = "lorapack version\n",
    .options = no_options,
    .args_size = sizeof(no_args),
    .run = run_version,
};

static const command *const commands[] = {
    &cmd_pack,     &cmd_unpack,  &cmd_inspect, &cmd_verify,  &cmd_merge,  &cmd_apply, &cmd_add,  &cmd_remove, &cmd_history,
    &cmd_rollback, &cmd_compact, &cmd_keygen,  &cmd_sign,    &cmd_doctor,
#ifdef WITH_KIT
    &cmd_diff,     &cmd_compose, &cmd_resize,  &cmd_extract, &cmd_init,   &cmd_plan,  &cmd_lock, &cmd_build,  &cmd_emit,
#endif
#ifdef WITH_MOUNT
    &cmd_mount,    &cmd_run,
#endif
    &cmd_help,     &cmd_version,
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_commands(FILE *to)
{
    fputs("Usage: lorapack COMMAND ...\n\n"
          "Pack LoRA adapters into .lora files, look at them, compute with them, and merge them\ninto models.\n\n"
          "Commands:\n",
          to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\nlorapack COMMAND --help says more about each.\n", to);
}

static void print_example(FILE *to, const char *example)
{
    while (*example) {
        const size_t length = strcspn(example, "\n");
        fprintf(to, "  %.*s\n", (int)length, example);
        example += length + 1;
    }
}

static void print_help(FILE *to, const command *c)
{
    fprintf(to, "Usage: lorapack %s\n\n", c->usage);
    print_wrapped(to, c->about, 0);
    fputs("\nOptions:\n", to);
    options_help(to, c->options);
    fputs("\nExample:\n", to);
    print_example(to, c->example);
}

static const command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

static int unknown_command(const char *typed)
{
    const char *names[N_COMMANDS], *near;

    for (size_t i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i]->name;
    near = nearest_name(typed, names, sizeof names[0], N_COMMANDS);
    if (near)
        message_error("unknown command %s, did you mean %s?", typed, near);
    else
        message_error("unknown command %s (lorapack help lists them)", typed);
    return EXIT_USAGE;
}

static int run_help(const void *args, size_t n_inputs, char *const *inputs)
{
    const command *c = n_inputs ? find_command(inputs[0]) : NULL;

    (void)args;
    if (n_inputs && !c)
        return unknown_command(inputs[0]);
    if (c)
        print_help(stdout, c);
    else
        print_commands(stdout);
    return EXIT_DONE;
}

static int run_version(const void *args, size_t n_inputs, char *const *inputs)
{
    (void)args;
    (void)n_inputs;
    (void)inputs;
    printf("lorapack %s, liblorafmt %s, format %d.%d\n", LORAFMT_RELEASE, lorafmt_release(), LORAFMT_FORMAT_MAJOR,
           LORAFMT_FORMAT_MINOR);
    return EXIT_DONE;
}

static int run_parsed(const command *c, const void *args, size_t n_inputs, char *const *inputs)
{
    if (n_inputs < c->min_inputs)
        return message_usage(c->name, "nothing to work on is given; usage: lorapack %s", c->usage);
    if (n_inputs > c->max_inputs)
        return message_usage(c->name, "unexpected argument %s", inputs[c->max_inputs]);
    return c->run(args, n_inputs, inputs);
}

static int run(const command *c, size_t argc, char **argv)
{
    void *args = calloc(1, c->args_size);
    size_t n_inputs;
    int code = EXIT_USAGE;

    if (!args)
        return message_no_memory();
    switch (options_parse(c->name, c->options, argc, argv, args, &n_inputs)) {
    case OPTION_PARSED:
        code = run_parsed(c, args, n_inputs, argv);
        break;
    case OPTION_HELP:
        print_help(stdout, c);
        code = EXIT_DONE;
        break;
    case OPTION_WRONG:
        code = EXIT_USAGE;
        break;
    case OPTION_NO_MEMORY:
        code = message_no_memory();
        break;
    }
    options_free(c->options, args);
    free(args);
    return code;
}

/* A result that did not arrive is a failure, whatever the command thought. */
static int finish(int code)
{
    if (!fflush(stdout) && !ferror(stdout))
        return code;
    return message_error("standard output: cannot be written: %s", strerror(errno));
}

/* Or what is opened next is what we print to, or read from. Writing there fails, as it does to what is closed. */
static void open_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    const command *c;

    open_standard_descriptors();
    signal(SIGXFSZ, SIG_IGN); // a file that becomes too large is an error of writing, after which nothing is left behind
    if (!name) {
        print_commands(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    else if (!strcmp(name, "--version"))
        name = "version";
    if (!(c = find_command(name)))
        return unknown_command(name);
#ifdef WITH_KIT
    if (c->algebra)
        blas_prepare(argv);
#endif
    return finish(run(c, (size_t)argc - 2, argv + 2));
}
