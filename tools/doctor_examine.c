/* SPDX-License-Identifier: MIT */
/* What was given, and what the functions that every command opens it with say of it. */
#include "tools/command.h"
#include "tools/doctor.h"
#include "tools/path.h"
#include "tools/text.h"

#include "lorafmt/generations.h"
#include "lorafmt/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool ends_with(const char *path, const char *suffix)
{
    const size_t n = strlen(path), m = strlen(suffix);

    return n >= m && !strcmp(path + n - m, suffix);
}

static bool is_named(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');

    return !strcmp(slash ? slash + 1 : path, name);
}

static bool holds(const char *directory, const char *name)
{
    char path[SIDE_PATH_SIZE];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path_exists(path);
}

/* spec 2: the beginning of a `.lora`, whatever its name is. */
static bool has_magic(const char *path)
{
    static const char magic[] = "\x89loraf"
                                "mt\r\n\x1a\n";
    char found[sizeof magic - 1];
    FILE *file = fopen(path, "rb");
    const bool is = file && fread(found, sizeof found, 1, file) == 1 && !memcmp(found, magic, sizeof found);

    if (file)
        fclose(file);
    return is;
}

/* What is beside the adapters of a `.lora`. */
static void examine_container(diagnosis *d, const lorafmt_source *source, const struct stat *file)
{
    const size_t n = lorafmt_source_n_adapters(source);
    lorafmt_container_info info;
    char size[NUMBER_TEXT_SIZE];

    if (!lorafmt_source_container(source, &info))
        return;
    snprintf(d->is, sizeof d->is, "a .lora file, format %u.%u, %zu adapter%s, generation %" PRIu64 ", %s", info.version_major,
             info.version_minor, n, n == 1 ? "" : "s", info.generation, size_text((uint64_t)file->st_size, size));
    if ((uint64_t)file->st_size > info.file_end)
        add_finding(d, &cause_after_end, "%s behind its end", size_text((uint64_t)file->st_size - info.file_end, size));
    if (info.n_ignored_sections)
        add_finding(d, &cause_ignored, "%zu section%s of a newer format", info.n_ignored_sections,
                    info.n_ignored_sections == 1 ? "" : "s");
}

static int examine_sound(diagnosis *d, const lorafmt_source *source, const lorafmt_verify_result *r)
{
    const bool digests = lorafmt_source_get_kind(source) == LORAFMT_SOURCE_LORA;
    char size[NUMBER_TEXT_SIZE];

    snprintf(d->checked, sizeof d->checked, "%s: %zu adapter%s, %zu sites, %zu tensors, %s",
             digests ? "every digest and every rule" : "every rule; there are no digests", r->n_adapters,
             r->n_adapters == 1 ? "" : "s", r->n_sites, r->n_tensors, size_text(r->n_bytes, size));
    for (size_t i = 0; !digests && i < lorafmt_source_n_notes(source); i++)
        add_finding(d, &cause_left_out, "%s", lorafmt_source_note(source, i));
    if (digests)
        examine_signatures(d, source);
    return examine_oddities(d, source);
}

/* All that the root leads to, in the order of the spec, and whether or not the other slot is damaged. */
static lorafmt_status verify_current(const char *path, lorafmt_verify_result *out, lorafmt_error *err)
{
    lorafmt_history *history;
    lorafmt_status st = lorafmt_history_open(path, &history, err);

    if (!st)
        st = lorafmt_history_verify(history, 0, out, err);
    lorafmt_history_free(history);
    return st;
}

static int examine_opened(diagnosis *d, const lorafmt_source *source, const struct stat *file)
{
    lorafmt_verify_result result;
    lorafmt_error err;
    lorafmt_status st = lorafmt_verify(source, &result, &err);

    if (st && result.recovered) {
        add_caused(d, &cause_recovered, &err);
        st = verify_current(d->path, &result, &err);
    }
    examine_container(d, source, file);
    if (!st)
        return examine_sound(d, source, &result);
    add_failure(d, &err);
    return EXIT_DONE;
}

/* Opening meets what is wrong with a `.lora` in another order, so another place of the same fault; or nothing is wrong but a meaning. */
static void add_refusal(diagnosis *d, const lorafmt_error *err)
{
    lorafmt_error first;

    if (d->subject == SUBJECT_LORA && verify_current(d->path, NULL, &first))
        add_failure(d, &first);
    else
        add_failure(d, err);
}

/* An adapter. Of one that does not say its scale all else is looked at. */
static int examine_source(diagnosis *d, const char *path, const struct stat *file)
{
    lorafmt_source_options options = {.struct_size = sizeof options, .alpha = 1};
    lorafmt_source *source;
    lorafmt_error err;
    lorafmt_status st = lorafmt_source_open(path, &options, &source, &err);
    int code = EXIT_DONE;

    if (st == LORAFMT_UNSUPPORTED && err.hint == LORAFMT_HINT_ALPHA) {
        add_failure(d, &err);
        options.has_alpha = true;
        st = lorafmt_source_open(path, &options, &source, &err);
    }
    if (st)
        add_refusal(d, &err);
    else
        code = examine_opened(d, source, file);
    lorafmt_source_free(source);
    if (d->subject == SUBJECT_LORA && d->level == LEVEL_BROKEN)
        examine_adapters(d);
    if (d->subject == SUBJECT_LORA)
        examine_generations(d);
    return code;
}

static void describe_model(diagnosis *d, const lorafmt_model *model)
{
    const lorafmt_base *base = lorafmt_model_base(model);
    const size_t n_files = lorafmt_model_n_files(model);
    char size[NUMBER_TEXT_SIZE];
    uint64_t n_bytes = 0;

    for (size_t i = 0; i < base->n_tensors; i++)
        n_bytes += base->tensors[i].size;
    snprintf(d->is, sizeof d->is, "a base model, %zu tensors in %zu file%s, %s", base->n_tensors, n_files,
             n_files == 1 ? "" : "s", size_text(n_bytes, size));
    snprintf(d->checked, sizeof d->checked, "every header; numbers of a model are under no digest");
    if (base->quantization)
        add_finding(d, &cause_quantised, "quantised: %s", base->quantization);
}

/* A model, or nothing that is known; `other` is what is said then, NULL for what the reader of models says. */
static void examine_model(diagnosis *d, const char *path, const lorafmt_error *other)
{
    lorafmt_model *model;
    lorafmt_error err;
    const lorafmt_status st = lorafmt_model_open(path, &model, &err);

    d->subject = st == LORAFMT_NOT_LORAFMT ? SUBJECT_OTHER : SUBJECT_MODEL;
    snprintf(d->is, sizeof d->is, st == LORAFMT_NOT_LORAFMT ? "nothing that lorapack reads" : "a base model");
    if (st)
        add_failure(d, st == LORAFMT_NOT_LORAFMT && other ? other : &err);
    else
        describe_model(d, model);
    lorafmt_model_free(model);
}

static int examine_directory(diagnosis *d, const char *path, const struct stat *st)
{
    lorafmt_source *source;
    lorafmt_error err = {0};

    if (holds(path, "adapter_config.json") || holds(path, "adapter_model.safetensors") || holds(path, "adapter_model.bin")) {
        d->subject = SUBJECT_PEFT;
        snprintf(d->is, sizeof d->is, "a PEFT adapter: a folder with adapter_config.json and adapter_model.safetensors");
        return examine_source(d, path, st);
    }
    if (!lorafmt_source_open(path, NULL, &source, &err)) // filled since we looked
        lorafmt_source_free(source);
    examine_model(d, path, err.status == LORAFMT_NOT_FOUND ? &err : NULL);
    return EXIT_DONE;
}

/* A name of `.lora` and no magic: text mode, a safetensors file, or something else altogether. */
static void examine_false_lora(diagnosis *d, const lorafmt_error *err)
{
    d->subject = SUBJECT_LORA;
    snprintf(d->is, sizeof d->is, "a .lora file by its name");
    if (strstr(err->text, "text mode")) {
        add_failure(d, err);
        return;
    }
    examine_model(d, d->path, NULL);
    if (d->level < LEVEL_BROKEN)
        add_caused(d, &cause_wrong_name, err);
}

static int examine_bytes(diagnosis *d, const struct stat *file)
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .has_alpha = true, .alpha = 1};
    char size[NUMBER_TEXT_SIZE];
    lorafmt_source *source;
    lorafmt_error err = {0};
    lorafmt_status st;

    size_text((uint64_t)file->st_size, size);
    if (has_magic(d->path)) {
        d->subject = SUBJECT_LORA;
        snprintf(d->is, sizeof d->is, "a .lora file, %s", size);
        return examine_source(d, d->path, file);
    }
    st = lorafmt_source_open(d->path, &options, &source, &err);
    lorafmt_source_free(source);
    if (ends_with(d->path, ".lora"))
        examine_false_lora(d, &err);
    else if (st == LORAFMT_NOT_LORAFMT || (st == LORAFMT_UNSUPPORTED && strstr(err.text, "no LoRA tensors")))
        examine_model(d, d->path, NULL);
    else {
        d->subject = SUBJECT_SAFETENSORS;
        snprintf(d->is, sizeof d->is, "a safetensors file, %s", size);
        return examine_source(d, d->path, file);
    }
    return EXIT_DONE;
}

static int examine_file(diagnosis *d, const struct stat *file)
{
    char directory[SIDE_PATH_SIZE];

    directory_of(d->path, directory);
    if (is_named(d->path, "adapter_config.json"))
        return examine_directory(d, directory, file);
    if (ends_with(d->path, ".safetensors.index.json"))
        examine_model(d, directory, NULL);
#ifdef WITH_KIT
    else if (ends_with(d->path, ".yaml") || ends_with(d->path, ".yml"))
        examine_manifest(d, d->path);
    else if (ends_with(d->path, ".lock"))
        examine_lock(d);
#endif
    else
        return examine_bytes(d, file);
    return EXIT_DONE;
}

/* What there is no way to, and what is neither file nor folder. */
static void examine_place(diagnosis *d, int os_error)
{
    lorafmt_model *model;
    lorafmt_error err;

    d->subject = os_error == ENOENT || os_error == ENOTDIR ? SUBJECT_NOTHING : SUBJECT_OTHER;
    snprintf(d->is, sizeof d->is, d->subject == SUBJECT_NOTHING ? "nothing: there is no such file" : "not known");
    if (lorafmt_model_open(d->path, &model, &err))
        add_failure(d, &err);
    else
        add_finding(d, &cause_changing, "it was not there, and then it was");
    lorafmt_model_free(model);
}

int doctor_examine(diagnosis *d)
{
    struct stat before, after;
    int code = EXIT_DONE;

    if (stat(d->path, &before)) {
        examine_place(d, errno);
        return EXIT_DONE;
    }
    if (S_ISDIR(before.st_mode))
        code = examine_directory(d, d->path, &before);
    else if (S_ISREG(before.st_mode))
        code = examine_file(d, &before);
    else
        examine_place(d, 0);
    if (stat(d->path, &after) || after.st_size != before.st_size || after.st_mtim.tv_sec != before.st_mtim.tv_sec ||
        after.st_mtim.tv_nsec != before.st_mtim.tv_nsec)
        add_finding(d, &cause_changing, "the file changed while it was looked at");
    return code;
}
