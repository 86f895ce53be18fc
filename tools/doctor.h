/* SPDX-License-Identifier: MIT */
/*
 * What is the matter with a file. doctor_examine() finds it with the functions that every command uses, so what it says can be read
 * can be read by them; doctor_signs.c says what that means; doctor_print.c tells it.
 */
#ifndef TOOLS_DOCTOR_H
#define TOOLS_DOCTOR_H

#include "tools/message.h"

#include "lorafmt/adapter.h"
#include "lorafmt/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What was given, as far as one can tell. */
typedef enum subject {
    SUBJECT_NOTHING,
    SUBJECT_LORA,
    SUBJECT_PEFT,        /* a directory, or its adapter_config.json */
    SUBJECT_SAFETENSORS, /* a file that is no model */
    SUBJECT_MODEL,       /* a file, a directory, or its shard index */
    SUBJECT_MANIFEST,
    SUBJECT_LOCK,
    SUBJECT_OTHER,
} subject;

/* "lora" */
const char *subject_name(subject what);

/* How bad it is: what is noted leaves a file sound. */
typedef enum level { LEVEL_NOTE, LEVEL_SUSPICIOUS, LEVEL_BROKEN } level;

/* Why something is as it is found: docs/json.md has a word for each. */
typedef struct cause {
    const char *name;
    level level;
    const char *meaning;                                                              /* for who does not know the format */
    const char *advice;                                                               /* NULL: the commands say it all */
    enum { TOOL_NONE, TOOL_LFS, TOOL_GUNZIP, TOOL_ALPHA, TOOL_BASE, TOOL_LOCK } tool; /* a command that helps */
    bool is_data;  /* of a `.lora`: data of tensors alone, all else was checked */
    bool is_local; /* what is whole in the same file can be trusted as much as before */
} cause;

/* The cause of a failure; never NULL. */
const cause *cause_of(subject what, const lorafmt_error *err);

/* Causes that are no failure of a function. */
extern const cause cause_recovered, cause_after_end, cause_ignored, cause_unsigned, cause_false_signature, cause_left_out,
    cause_changing, cause_earlier, cause_wrong_name, cause_quantised, cause_drift, cause_no_manifest;

typedef struct finding {
    const char *cause;
    level level;
    const char *meaning;
    lorafmt_error error; /* status OK when no function failed */
} finding;

#define MOST_FINDINGS 32
#define MOST_ADVICE 32
#define MOST_ADAPTERS 64
#define MOST_GENERATIONS 16

/* An adapter of a `.lora` that is not sound. */
typedef struct adapter_part {
    char name[256];
    bool is_readable; /* by every command that takes FILE#NAME */
    bool is_counted;  /* n_intact is known */
    size_t n_sites, n_intact;
    char damaged[320]; /* factors that are not as they should be, as far as there is room */
} adapter_part;

/* A generation before the current one. */
typedef struct generation_part {
    uint64_t number;
    size_t n_adapters;
    bool is_intact;
} generation_part;

typedef struct advice {
    bool is_command;
    char text[5120]; /* a sentence; or a command for a shell, with two paths */
} advice;

typedef struct diagnosis {
    const char *path;
    const char *manifest; /* that its lock belongs to; NULL when it is about none */
    subject subject;
    char is[320];      /* a phrase: what it is */
    char checked[160]; /* a phrase: what was looked at and is right; empty when it is not sound */
    level level;       /* of the worst finding */
    bool is_local;     /* one of them is */
    size_t n_findings, n_more_findings;
    finding findings[MOST_FINDINGS];
    size_t n_adapters, n_more_adapters;
    adapter_part adapters[MOST_ADAPTERS];
    size_t n_generations, n_more_generations;
    generation_part generations[MOST_GENERATIONS];
    size_t n_advice;
    advice advice[MOST_ADVICE];
} diagnosis;

/* Look at d->path and fill in the rest of a zeroed one. Returns an exit code: EXIT_FAILED only when it cannot look. */
int doctor_examine(diagnosis *d);

/* Parts of it. What else is wrong with what a source holds; what of a broken `.lora` commands can read; its earlier states. */
int examine_oddities(diagnosis *d, const lorafmt_source *source);
void examine_signatures(diagnosis *d, const lorafmt_source *source);
void examine_adapters(diagnosis *d);
void examine_generations(diagnosis *d);

/* With liblorakit. */
void examine_manifest(diagnosis *d, const char *path);
void examine_lock(diagnosis *d);

/* A failure by its cause, or by another one; or something that is no failure, in words of its own. */
void add_failure(diagnosis *d, const lorafmt_error *err);
void add_caused(diagnosis *d, const cause *why, const lorafmt_error *err);
void add_finding(diagnosis *d, const cause *why, const char *format, ...) MESSAGE_FORMAT(3);

/* A sentence, or a command of words that are quoted as they need, ended by NULL. Once each. */
void advise(diagnosis *d, const char *text);
void advise_command(diagnosis *d, const char *const *words);

/* "DIR/legal.lora" -> "DIR/legal-rescued.lora" for the suffix "-rescued.lora"; returns buf. */
#define SIDE_PATH_SIZE 4200
const char *side_path(const char *path, const char *suffix, char buf[SIDE_PATH_SIZE]);

/* The directory that a path lies in; returns buf. */
const char *directory_of(const char *path, char buf[SIDE_PATH_SIZE]);

void doctor_print(const diagnosis *d);
void doctor_json(const diagnosis *d);

#endif
