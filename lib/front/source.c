/* SPDX-License-Identifier: MIT */
/* Open anything that holds adapters. */
#include "lib/front/source.h"

#include "format/base/error.h"
#include "format/base/text.h"
#include "format/foreign/json.h"
#include "lib/front/limits.h"
#include "lib/front/load.h"
#include "lib/front/policy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_SIZE 512 // bytes of a list of names in a message

/* The adapter's name: the directory's, or the file's without its extension. */
static void default_name(const char *path, char out[LF_MAX_ADAPTER_NAME + 1])
{
    char *dot;

    lf_path_base_name(path, out, LF_MAX_ADAPTER_NAME + 1);
    if (lf_ends_with(out, ".safetensors") && (dot = strrchr(out, '.')))
        *dot = '\0';
    if (!lf_adapter_name_valid(out))
        strcpy(out, "adapter");
}

/* What is in a container beside its adapters, and does not go with them. */
static lorafmt_status note_extras(lorafmt_source *source, lorafmt_error *err)
{
    lorafmt_container_info info;

    lf_container_info(source->container, &info);
    if (info.n_ignored_sections &&
        lf_note(&source->notes, &source->arena, "ignored %zu section%s of a newer format, which packing leaves out",
                info.n_ignored_sections, info.n_ignored_sections == 1 ? "" : "s"))
        return lf_no_memory(err);
    return LORAFMT_OK;
}

/* Which tensors the factors of one adapter are. */
static lorafmt_status mark_tensors(const lf_container *c, size_t adapter, bool *wanted, lorafmt_error *err)
{
    uint32_t first_site, first_metadata, first_factor, tensor;
    lorafmt_adapter a;
    lorafmt_factor factor;
    lorafmt_site site;

    LF_TRY(lf_container_adapter(c, adapter, &a, &first_site, &first_metadata, err));
    for (size_t s = 0; s < a.n_sites; s++) {
        LF_TRY(lf_container_site(c, first_site + s, &site, &first_factor, err));
        for (uint32_t k = 0; k < site.n_factors; k++) {
            LF_TRY(lf_container_factor(c, (size_t)first_factor + k, &factor, &tensor, err));
            wanted[tensor] = true;
        }
    }
    return LORAFMT_OK;
}

/* Add a name to "a, b, c", which is cut when there are many. */
static void add_name(char *list, size_t size, const char *name)
{
    const size_t n = strlen(list);

    snprintf(list + n, size - n, "%s%s", n ? ", " : "", name);
}

static lorafmt_status no_such_adapter(const char *name, const char *names, lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL, "no adapter '%s' in it; there is %s", name, names);
}

/* The place of an adapter in the table. */
static lorafmt_status find_adapter(const lf_container *c, const char *name, size_t *out, lorafmt_error *err)
{
    uint32_t first_site, first_metadata;
    lorafmt_adapter adapter;
    char names[NAMES_SIZE] = "";

    for (*out = 0; *out < lf_container_n_adapters(c); ++*out) {
        LF_TRY(lf_container_adapter(c, *out, &adapter, &first_site, &first_metadata, err));
        if (strcmp(adapter.name, name) == 0)
            return LORAFMT_OK;
        add_name(names, sizeof names, adapter.name);
    }
    return no_such_adapter(name, names, err);
}

lorafmt_status lf_container_choose(const lf_container *c, const char *name, lf_arena *arena, size_t *adapter, bool **wanted,
                                   lorafmt_error *err)
{
    LF_TRY(find_adapter(c, name, adapter, err));
    *wanted = lf_arena_alloc(arena, lf_container_n_tensors(c), sizeof **wanted);
    return *wanted ? mark_tensors(c, *adapter, *wanted, err) : lf_no_memory(err);
}

/* Adapters [first, first + n). */
static lorafmt_status read_range(lorafmt_source *source, size_t first, size_t n, const bool *wanted,
                                 const lorafmt_source_options *options, lorafmt_error *err)
{
    lorafmt_adapter *adapters = lf_arena_alloc(&source->arena, n, sizeof *adapters);
    lf_adapter_reader reader = {.container = source->container,
                                .arena = &source->arena,
                                .row_indexes = {.arena = &source->arena}};
    const void **loaded;

    if (!adapters)
        return lf_no_memory(err);
    LF_TRY(lf_tensors_load(source->container, wanted, options && options->defer_digests, options ? options->n_threads : 0,
                           &source->arena, &loaded, err));
    reader.loaded = loaded;
    for (size_t i = 0; i < n; i++)
        LF_TRY(lf_adapter_read(&reader, first + i, &adapters[i], err));
    source->adapters = adapters;
    source->n_adapters = n;
    return note_extras(source, err);
}

static const lorafmt_limits *limits_of(const lorafmt_source_options *options)
{
    return options ? options->limits : NULL;
}

static lorafmt_status read_adapters(lorafmt_source *source, const lorafmt_source_options *options, lorafmt_error *err)
{
    bool *wanted;
    size_t i;

    source->kind = LORAFMT_SOURCE_LORA;
    LF_TRY(lf_limits_check_container(limits_of(options), source->container, err));
    if (!options || !options->adapter)
        return read_range(source, 0, lf_container_n_adapters(source->container), NULL, options, err);
    LF_TRY(lf_container_choose(source->container, options->adapter, &source->arena, &i, &wanted, err));
    return read_range(source, i, 1, wanted, options, err);
}

static lorafmt_status parse_tensors(lorafmt_source *source, const lorafmt_limits *limits, lf_peft_tensor **out,
                                    lorafmt_error *err)
{
    const lf_map *map = &source->map;
    const size_t head = map->size < 64 ? (size_t)map->size : 64;
    uint64_t header_size;
    lf_peft_tensor *tensors;

    LF_TRY(lf_safetensors_header_size(map->bytes, head, map->size, &header_size, err));
    LF_TRY(lf_limits_check_header(limits, map->bytes + 8, header_size, err));
    LF_TRY(lf_safetensors_parse(map->bytes + 8, header_size, map->size, &source->table, err));
    LF_TRY(lf_limits_check_table(limits, source->table, err));
    tensors = lf_arena_alloc(&source->arena, source->table->n_tensors, sizeof *tensors);
    if (!tensors)
        return lf_no_memory(err);
    for (size_t i = 0; i < source->table->n_tensors; i++) {
        const lf_safetensors_tensor *t = &source->table->tensors[i];
        tensors[i].name = t->name;
        tensors[i].tensor =
            (lorafmt_tensor){.dtype = t->dtype, .n_dims = t->n_dims, .size = t->size, .data = map->bytes + t->offset};
        memcpy(tensors[i].tensor.shape, t->shape, sizeof t->shape);
    }
    *out = tensors;
    return LORAFMT_OK;
}

static bool has_lora_tensors(const lf_safetensors *table)
{
    for (size_t i = 0; i < table->n_tensors; i++)
        if (strstr(table->tensors[i].name, "lora_"))
            return true;
    return false;
}

/* Where a bare file says its alpha: the options, or lora_alpha (and use_rslora) in the safetensors metadata. */
static lorafmt_status bare_scale(const lorafmt_source *source, const lorafmt_source_options *options, lf_peft_input *out,
                                 lorafmt_error *err)
{
    const char *alpha = lf_safetensors_metadata(source->table, "lora_alpha");
    const char *rslora = lf_safetensors_metadata(source->table, "use_rslora");
    char *end;

    if (!has_lora_tensors(source->table))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                       "holds no LoRA tensors: is it a model, not an adapter?");
    if (options && options->has_alpha) {
        out->alpha = options->alpha;
        out->use_rslora = options->use_rslora;
        return LORAFMT_OK;
    }
    if (!alpha)
        return lf_hint(err,
                       lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                               "the scale of this adapter is unknown: there is no " LF_CONFIG_FILE
                               " beside it and no lora_alpha in its metadata"),
                       LORAFMT_HINT_ALPHA);
    out->alpha = strtod(alpha, &end);
    if (end == alpha || *end || !isfinite(out->alpha))
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "__metadata__.lora_alpha", "'%s', must be a finite number",
                       alpha);
    out->use_rslora = rslora && (strcmp(rslora, "true") == 0 || strcmp(rslora, "True") == 0);
    return LORAFMT_OK;
}

static lorafmt_status check_config(const lf_peft_input *in, const lorafmt_limits *limits, lorafmt_error *err)
{
    const lorafmt_status st = lf_limits_check_config(limits, in->config_text, in->config_size, err);

    if (st)
        lf_error_set_file(err, in->config_file);
    return st;
}

/* config is NULL for a bare file. */
static lorafmt_status import(lorafmt_source *source, const char *path, const char *config, size_t config_size,
                             const char *config_file, const lorafmt_source_options *options, lorafmt_error *err)
{
    char name[LF_MAX_ADAPTER_NAME + 1];
    lorafmt_adapter *adapter = lf_arena_alloc(&source->arena, 1, sizeof *adapter);
    lf_peft_tensor *tensors = NULL;
    lf_peft_input in = {.config_text = config, .config_size = config_size, .config_file = config_file, .name = name};

    if (!adapter)
        return lf_no_memory(err);
    source->kind = config ? LORAFMT_SOURCE_PEFT : LORAFMT_SOURCE_SAFETENSORS;
    if (config)
        LF_TRY(check_config(&in, limits_of(options), err));
    LF_TRY(parse_tensors(source, limits_of(options), &tensors, err));
    in.tensors = tensors;
    in.n_tensors = source->table->n_tensors;
    if (options) {
        in.base = options->base;
        in.orientation = options->has_orientation ? &options->orientation : NULL;
    }
    if (!config)
        LF_TRY(bare_scale(source, options, &in, err));
    else if (options && options->has_alpha)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL,
                       "an alpha is given, but " LF_CONFIG_FILE " says the scale already");
    default_name(path, name);
    LF_TRY(lf_peft_import(&in, &source->arena, adapter, &source->notes, err));
    LF_TRY(lf_limits_check_adapter(limits_of(options), adapter, err));
    source->adapters = adapter;
    source->n_adapters = 1;
    return LORAFMT_OK;
}

static lorafmt_status import_beside(lorafmt_source *source, const char *path, const char *config_path,
                                    const lorafmt_source_options *options, lorafmt_error *err)
{
    const uint64_t max_size = lorafmt_limits_get(limits_of(options), LORAFMT_LIMIT_CONFIG_SIZE);
    size_t config_size;
    lorafmt_status st;
    char *config;

    LF_TRY(lf_file_load(config_path, max_size, &config, &config_size, err));
    st = import(source, path, config, config_size, config_path, options, err);
    free(config);
    return st;
}

char *lf_config_beside(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    char *config_path = directory ? lf_path_join(directory, LF_CONFIG_FILE) : NULL;

    free(directory);
    return config_path;
}

/* A file that is not a container; a config may lie beside it. */
static lorafmt_status open_safetensors(lorafmt_source *source, const char *path, const lorafmt_source_options *options,
                                       lorafmt_error *err)
{
    char *config_path = lf_config_beside(path);
    lorafmt_status st;

    if (!config_path)
        st = lf_no_memory(err);
    else if (lf_path_type_of(config_path) == LF_PATH_FILE)
        st = import_beside(source, path, config_path, options, err);
    else
        st = import(source, path, NULL, 0, NULL, options, err);
    free(config_path);
    return st;
}

static lorafmt_status open_file(lorafmt_source *source, const char *path, const lorafmt_source_options *options,
                                lorafmt_error *err)
{
    const lorafmt_status st = lf_container_open_file(path, options, &source->map, &source->container, err);

    if (st == LORAFMT_NOT_LORAFMT && lf_path_type_of(path) == LF_PATH_FILE && !lf_ends_with(path, ".lora"))
        return open_safetensors(source, path, options, err);
    return st ? st : read_adapters(source, options, err);
}

static bool has_file(const char *directory, const char *name)
{
    char *path = lf_path_join(directory, name);
    const bool there = path && lf_path_type_of(path) == LF_PATH_FILE;

    free(path);
    return there;
}

/* "a, b": subdirectories that hold an adapter, as PEFT saves adapters with names, and trainers their checkpoints. */
static void list_adapters_below(const char *directory, char *out, size_t size)
{
    char **names;
    size_t n_names, used = 0;

    out[0] = '\0';
    if (lf_directory_list(directory, &names, &n_names, NULL))
        return;
    for (size_t i = 0; i < n_names && used + 1 < size; i++) {
        char *path = lf_path_join(directory, names[i]);
        if (path && has_file(path, LF_CONFIG_FILE)) {
            const int n = snprintf(out + used, size - used, "%s%s", used ? ", " : "", names[i]);
            used += n > 0 ? (size_t)n : 0;
        }
        free(path);
    }
    lf_names_free(names, n_names);
}

static lorafmt_status no_adapter_here(const char *directory, lorafmt_error *err)
{
    char below[256];

    if (has_file(directory, LF_CONFIG_FILE) &&
        (has_file(directory, "adapter_model.bin") || has_file(directory, "adapter_model.pt")))
        return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                       "adapter_model.bin is a pickle, which is never opened: load the adapter in PEFT and save it again with "
                       "safe_serialization=True");
    if (has_file(directory, LF_CONFIG_FILE))
        return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL, "there is no " LF_TENSOR_FILE " beside " LF_CONFIG_FILE);
    if (has_file(directory, LF_TENSOR_FILE))
        return lf_hint(err,
                       lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL,
                               "there is no " LF_CONFIG_FILE " beside " LF_TENSOR_FILE
                               "; the file alone can be read if its alpha is known"),
                       LORAFMT_HINT_ALPHA);
    if (has_file(directory, "config.json"))
        return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL,
                       "this is a model, not an adapter: it has config.json and no " LF_CONFIG_FILE);
    list_adapters_below(directory, below, sizeof below);
    if (below[0])
        return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL, "no adapter here, but in its subdirectories: %s", below);
    return lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL,
                   "no adapter here: a PEFT directory has " LF_CONFIG_FILE " and " LF_TENSOR_FILE);
}

static lorafmt_status open_peft(lorafmt_source *source, const char *path, const char *config_path, const char *tensor_path,
                                const lorafmt_source_options *options, lorafmt_error *err)
{
    lorafmt_status st = lf_source_map(tensor_path, options, &source->map, err);

    if (!st)
        st = import_beside(source, path, config_path, options, err);
    if (st)
        lf_error_set_file(err, tensor_path);
    return st;
}

static lorafmt_status open_directory(lorafmt_source *source, const char *path, const lorafmt_source_options *options,
                                     lorafmt_error *err)
{
    char *config_path = lf_path_join(path, LF_CONFIG_FILE), *tensor_path = lf_path_join(path, LF_TENSOR_FILE);
    lorafmt_status st;

    if (!config_path || !tensor_path)
        st = lf_no_memory(err);
    else if (lf_path_type_of(config_path) == LF_PATH_FILE && lf_path_type_of(tensor_path) == LF_PATH_FILE)
        st = open_peft(source, path, config_path, tensor_path, options, err);
    else
        st = no_adapter_here(path, err);
    free(config_path);
    free(tensor_path);
    return st;
}

static lorafmt_status new_source(const lorafmt_source_options *options, lorafmt_source **out, lorafmt_error *err)
{
    *out = NULL;
    if (options)
        LF_TRY(lf_check_struct_size(options->struct_size, sizeof *options, err));
    if (options && options->base)
        LF_TRY(lf_check_struct_size(options->base->struct_size, sizeof *options->base, err));
    if (options)
        LF_TRY(lf_policy_check_options(options, err));
    *out = calloc(1, sizeof **out);
    return *out ? LORAFMT_OK : lf_no_memory(err);
}

/* Give back a source that was opened and may be used, or say of which file a failure is. */
static lorafmt_status opened(lorafmt_source *source, lorafmt_status st, const char *name, const lorafmt_source_options *options,
                             lorafmt_source **out, lorafmt_error *err)
{
    if (!st && options)
        st = lf_policy_check_source(options, source, err);
    if (st) {
        lf_error_set_file(err, name);
        lorafmt_source_free(source);
    }
    *out = st ? NULL : source;
    return st;
}

lorafmt_status lorafmt_source_open(const char *path, const lorafmt_source_options *options, lorafmt_source **out,
                                   lorafmt_error *err)
{
    lorafmt_source *source;
    lorafmt_status st;

    *out = NULL;
    LF_TRY(new_source(options, &source, err));
    if (lf_path_type_of(path) == LF_PATH_DIRECTORY)
        st = open_directory(source, path, options, err);
    else
        st = open_file(source, path, options, err);
    return opened(source, st, path, options, out, err);
}

/* What bytes without a path are called. */
static const char *name_or_default(const char *name)
{
    return name ? name : "adapter";
}

/* Bytes that a source has, and the config that goes with them. */
static lorafmt_status open_bytes(lorafmt_source *source, const lorafmt_memory *in, const lorafmt_source_options *options,
                                 lorafmt_error *err)
{
    lorafmt_status st;

    LF_TRY(lf_limits_check_file(limits_of(options), source->map.size, err));
    st = lf_container_open(source->map.bytes, source->map.size, 0, &source->container, err);
    if (st != LORAFMT_NOT_LORAFMT)
        return st ? st : read_adapters(source, options, err);
    return import(source, name_or_default(in->name), in->config, in->config_size, LF_CONFIG_FILE, options, err);
}

lorafmt_status lorafmt_source_open_memory(const lorafmt_memory *memory, const lorafmt_source_options *options,
                                          lorafmt_source **out, lorafmt_error *err)
{
    lorafmt_source *source;

    *out = NULL;
    if (!memory || !memory->bytes)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "bytes", "NULL, must be a whole file");
    LF_TRY(new_source(options, &source, err));
    source->map = (lf_map){memory->bytes, memory->size};
    source->is_borrowed = true;
    return opened(source, open_bytes(source, memory, options, err), name_or_default(memory->name), options, out, err);
}

lorafmt_status lorafmt_source_open_fd(int fd, const char *name, const lorafmt_source_options *options, lorafmt_source **out,
                                      lorafmt_error *err)
{
    const lorafmt_memory in = {.name = name};
    const char *said = name_or_default(name);
    lorafmt_source *source;
    lorafmt_status st;
    uint64_t size;

    *out = NULL;
    LF_TRY(new_source(options, &source, err));
    st = lf_file_size(fd, said, &size, err);
    if (!st)
        st = lf_limits_check_file(limits_of(options), size, err);
    if (!st)
        st = (lf_policy_in_memory(options) ? lf_map_copy : lf_map_file)(fd, said, size, &source->map, err);
    if (!st)
        st = open_bytes(source, &in, options, err);
    return opened(source, st, said, options, out, err);
}

void lorafmt_source_free(lorafmt_source *source)
{
    if (!source)
        return;
    lf_container_free(source->container);
    lf_safetensors_free(source->table);
    if (!source->is_borrowed)
        lf_map_close(&source->map);
    lf_arena_free(&source->arena);
    free(source);
}

lorafmt_source_kind lorafmt_source_get_kind(const lorafmt_source *source)
{
    return source->kind;
}

size_t lorafmt_source_n_adapters(const lorafmt_source *source)
{
    return source->n_adapters;
}

const lorafmt_adapter *lorafmt_source_adapter(const lorafmt_source *source, size_t i)
{
    return i < source->n_adapters ? &source->adapters[i] : NULL;
}

size_t lorafmt_source_n_notes(const lorafmt_source *source)
{
    return source->notes.n;
}

const char *lorafmt_source_note(const lorafmt_source *source, size_t i)
{
    return i < source->notes.n ? source->notes.text[i] : NULL;
}

bool lorafmt_source_container(const lorafmt_source *source, lorafmt_container_info *out)
{
    memset(out, 0, sizeof *out);
    if (source->container)
        lf_container_info(source->container, out);
    return source->container != NULL;
}

lorafmt_status lorafmt_source_choose(const lorafmt_source *source, const char *name, const lorafmt_adapter **out,
                                     lorafmt_error *err)
{
    char names[NAMES_SIZE] = "";

    *out = NULL;
    for (size_t i = 0; i < source->n_adapters; i++) {
        add_name(names, sizeof names, source->adapters[i].name);
        if (name ? strcmp(source->adapters[i].name, name) == 0 : source->n_adapters == 1)
            *out = &source->adapters[i];
    }
    if (*out)
        return LORAFMT_OK;
    if (!name)
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "holds %zu adapters, choose one by #NAME: %s",
                       source->n_adapters, names);
    return no_such_adapter(name, names, err);
}
