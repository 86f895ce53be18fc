/* SPDX-License-Identifier: MIT */
/* Paths that the user names: which lies in which, and a small file that is whole or absent. */
#ifndef TOOLS_PATH_H
#define TOOLS_PATH_H

#include <stdbool.h>
#include <stdio.h>

/* A file of any type; a dangling symbolic link exists too. */
bool path_exists(const char *path);

/* Links followed. */
bool path_is_directory(const char *path);

/* Is the directory there that the path lies in? */
bool path_parent_exists(const char *path);

/* Does the name end in .safetensors? */
bool path_is_safetensors(const char *path);

/*
 * Whether `inner` is `outer` or lies in it, symbolic links followed; what does not exist yet is placed by its parents. Returns
 * an exit code, having said why it is not 0.
 */
int path_within(const char *inner, const char *outer, bool *within);

/*
 * A model that is written beside the base it is made from: a directory where that is one, and neither in the other, since with
 * --force an output that is, or holds, an input would take it away. Returns an exit code.
 */
int path_check_output(const char *verb, const char *base, const char *output);

/* A file that is written beside its place and renamed into it. */
typedef struct output_file {
    FILE *stream;
    char *temporary;
    const char *path;  /* borrowed */
    const char *after; /* what a message of failure ends with */
} output_file;

/* Both return an exit code, having said why it is not 0, and leave nothing behind on failure. */
int output_begin(output_file *out, const char *path, const char *after);
int output_commit(output_file *out);

#endif
