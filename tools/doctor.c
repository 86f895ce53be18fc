/* SPDX-License-Identifier: MIT */
/* A diagnosis as it grows: findings, and what to do about them. */
#include "tools/doctor.h"

#include "tools/path.h"
#include "tools/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *subject_name(subject what)
{
    switch (what) {
    case SUBJECT_NOTHING:
        return "nothing";
    case SUBJECT_LORA:
        return "lora";
    case SUBJECT_PEFT:
        return "peft";
    case SUBJECT_SAFETENSORS:
        return "safetensors";
    case SUBJECT_MODEL:
        return "model";
    case SUBJECT_MANIFEST:
        return "manifest";
    case SUBJECT_LOCK:
        return "lock";
    case SUBJECT_OTHER:
        return "other";
    }
    return "other";
}

void advise(diagnosis *d, const char *text)
{
    for (size_t i = 0; i < d->n_advice; i++)
        if (!strcmp(d->advice[i].text, text))
            return;
    if (d->n_advice < MOST_ADVICE)
        snprintf(d->advice[d->n_advice++].text, sizeof d->advice->text, "%s", text);
}

/* One that is cut would be another command. */
void advise_command(diagnosis *d, const char *const *words)
{
    char text[sizeof d->advice->text] = "";
    const size_t n = d->n_advice;

    for (; *words; words++) {
        text_append(text, sizeof text, "%s", text[0] ? " " : "");
        text_append_word(text, sizeof text, *words);
    }
    if (strlen(text) == sizeof text - 1)
        return;
    advise(d, text);
    if (d->n_advice > n)
        d->advice[n].is_command = true;
}

/* Without the slashes that a directory may end with, and without the extension of a file. */
static size_t stem_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    size_t n = strlen(path);

    if (dot && dot > (slash ? slash + 1 : path) && !path_is_directory(path))
        return (size_t)(dot - path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n;
}

const char *side_path(const char *path, const char *suffix, char buf[SIDE_PATH_SIZE])
{
    snprintf(buf, SIDE_PATH_SIZE, "%.*s%s", (int)stem_of(path), path, suffix);
    return buf;
}

const char *directory_of(const char *path, char buf[SIDE_PATH_SIZE])
{
    const char *slash = strrchr(path, '/');

    snprintf(buf, SIDE_PATH_SIZE, "%.*s", !slash || slash == path ? 1 : (int)(slash - path), slash ? path : ".");
    return buf;
}

/* The tensors of an adapter that lacks its config; pack reads them alone only by their own name. */
static const char *tensors_of(const diagnosis *d, char buf[SIDE_PATH_SIZE])
{
    if (!path_is_directory(d->path))
        return d->path;
    snprintf(buf, SIDE_PATH_SIZE, "%s/adapter_model.safetensors", d->path);
    return buf;
}

static void advise_tool(diagnosis *d, const cause *why, const char *file)
{
    char at[SIDE_PATH_SIZE], side[SIDE_PATH_SIZE];

    switch (why->tool) {
    case TOOL_NONE:
        return;
    case TOOL_LFS:
        advise_command(d, (const char *const[]){"git", "-C", directory_of(file, at), "lfs", "pull", NULL});
        return;
    case TOOL_GUNZIP:
        side_path(file, "-unzipped.safetensors.gz", side);
        advise_command(d, (const char *const[]){"cp", "-n", file, side, NULL});
        advise_command(d, (const char *const[]){"gunzip", side, NULL});
        return;
    case TOOL_ALPHA:
        advise_command(d, (const char *const[]){"lorapack", "pack", tensors_of(d, at), "--alpha", "ALPHA", "-o",
                                                side_path(d->path, ".lora", side), NULL});
        return;
    case TOOL_BASE:
        advise_command(d, (const char *const[]){"lorapack", "pack", d->path, "--base", "BASE", "-o",
                                                side_path(d->path, ".lora", side), NULL});
        return;
    case TOOL_LOCK:
        advise_command(d, (const char *const[]){"lorapack", "lock", d->manifest, "--update", NULL});
        return;
    }
}

/* The file that a failure is about; NULL when its path was cut. */
static const char *file_of(const diagnosis *d, const lorafmt_error *err)
{
    if (!strncmp(d->path, err->file, strlen(err->file))) // not named, named in full, or cut
        return d->path;
    return strlen(err->file) < sizeof err->file - 1 ? err->file : NULL;
}

static bool is_known(const diagnosis *d, const lorafmt_error *err)
{
    for (size_t i = 0; i < d->n_findings; i++)
        if (!strcmp(d->findings[i].error.field, err->field) && !strcmp(d->findings[i].error.text, err->text))
            return true;
    return false;
}

void add_caused(diagnosis *d, const cause *why, const lorafmt_error *err)
{
    size_t at;

    if (is_known(d, err))
        return;
    if (why->level > d->level)
        d->level = why->level;
    d->is_local |= why->is_local;
    if (d->n_findings == MOST_FINDINGS) {
        d->n_more_findings++;
        return;
    }
    for (at = d->n_findings++; at && d->findings[at - 1].level < why->level; at--) // the worst first
        d->findings[at] = d->findings[at - 1];
    d->findings[at] = (finding){.cause = why->name, .level = why->level, .meaning = why->meaning, .error = *err};
    if (why->advice)
        advise(d, why->advice);
    if (file_of(d, err))
        advise_tool(d, why, file_of(d, err));
}

void add_failure(diagnosis *d, const lorafmt_error *err)
{
    add_caused(d, cause_of(d->subject, err), err);
}

void add_finding(diagnosis *d, const cause *why, const char *format, ...)
{
    lorafmt_error err = {.offset = LORAFMT_NO_OFFSET};
    va_list args;

    va_start(args, format);
    vsnprintf(err.text, sizeof err.text, format, args);
    va_end(args);
    add_caused(d, why, &err);
}
