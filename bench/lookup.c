/* SPDX-License-Identifier: MIT */
/*
 * Times opening a page-cached `.lora` file and looking up every site of it by name, beside parsing the same table as JSON: the header
 * of a safetensors file with ranks and scales, by cJSON. To find a site is to have its number, to read it is to have all of it,
 * checked, with its factors and where their data lies. In every round each is done once; the medians are printed with the range,
 * and allocations are counted (the build wraps malloc() and its kin, so those inside shared libraries are not; cJSON's are by its hooks).
 *
 * usage: bench_lookup [--json]   adapters of 10 000 and of 448 tensors; --json: a line for each way
 */
#include "format/container/container.h"
#include "lib/io/io.h"
#include "lorafmt/index.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 31, RANK = 8, WIDTH = 64, TENSOR_SIZE = 2 * RANK * WIDTH, MAX_TARGET = 64 };

static void require(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "bench_lookup: %s\n", what);
        exit(1);
    }
}

/* --- allocations --- */

static size_t n_allocations;

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's --wrap makes these names */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size)
{
    n_allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    n_allocations++;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    n_allocations++;
    return __real_realloc(p, size);
}

static void *count_and_malloc(size_t size)
{
    return __wrap_malloc(size);
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* --- the files --- */

typedef struct buffer {
    uint8_t *bytes;
    size_t size, capacity;
} buffer;

static lorafmt_status append(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    buffer *b = ctx;

    (void)err;
    if (b->capacity - b->size < size) {
        b->capacity = 2 * (b->size + size);
        b->bytes = realloc(b->bytes, b->capacity);
        require(b->bytes != NULL, "out of memory");
    }
    memcpy(b->bytes + b->size, data, size);
    b->size += size;
    return LORAFMT_OK;
}

__attribute__((format(printf, 2, 3))) static void append_text(buffer *b, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    append(b, text, (size_t)vsnprintf(text, sizeof text, format, args), NULL);
    va_end(args);
}

/* An adapter of n linear layers, and the names of their tensors in the order of the model, as a loader has them. */
typedef struct model {
    size_t n;
    char (*targets)[MAX_TARGET];
    lorafmt_site *sites; /* in the order of spec 4.4 */
    lorafmt_factor *factors;
    uint16_t *data;
} model;

static int compare_sites(const void *a, const void *b)
{
    return lf_site_compare(a, b);
}

static void make_model(model *m, size_t n)
{
    static const char *const modules[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                          "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    const size_t n_modules = sizeof modules / sizeof modules[0];

    *m = (model){n, calloc(n, sizeof *m->targets), calloc(n, sizeof *m->sites), calloc(2 * n, sizeof *m->factors),
                 calloc(2 * n, TENSOR_SIZE)};
    require(m->targets && m->sites && m->factors && m->data, "out of memory");
    for (size_t i = 0; i < n; i++) {
        lorafmt_factor *f = m->factors + 2 * i;
        uint16_t *a = m->data + i * TENSOR_SIZE, *b = a + TENSOR_SIZE / 2;
        snprintf(m->targets[i], MAX_TARGET, "model.layers.%zu.%s.weight", i / n_modules, modules[i % n_modules]);
        memcpy(a, &i, sizeof i); // so that no tensor is stored once for two
        memcpy(b + 4, &i, sizeof i);
        f[0] = (lorafmt_factor){LORAFMT_ROLE_A,
                                {.dtype = LORAFMT_BF16, .n_dims = 2, .shape = {RANK, WIDTH}, .size = TENSOR_SIZE, .data = a}};
        f[1] = (lorafmt_factor){LORAFMT_ROLE_B,
                                {.dtype = LORAFMT_BF16, .n_dims = 2, .shape = {WIDTH, RANK}, .size = TENSOR_SIZE, .data = b}};
        m->sites[i] = (lorafmt_site){.target = m->targets[i],
                                     .kind = LORAFMT_KIND_LINEAR,
                                     .scaling = LORAFMT_SCALING_ALPHA_R,
                                     .rank = RANK,
                                     .alpha = 2 * RANK,
                                     .scale = 2,
                                     .n_factors = 2,
                                     .factors = f};
    }
    qsort(m->sites, n, sizeof *m->sites, compare_sites);
}

static void free_model(model *m)
{
    free(m->targets);
    free(m->sites);
    free(m->factors);
    free(m->data);
}

static buffer make_lora(const model *m)
{
    const lorafmt_adapter adapter = {.name = "a", .base_name = "", .base_revision = "", .n_sites = m->n, .sites = m->sites};
    const lorafmt_adapter *const adapters[] = {&adapter};
    buffer file = {0};
    uint64_t size;

    require(lf_container_encode(adapters, 1, 6, LORAFMT_CODEC_RAW, append, &file, &size, NULL) == LORAFMT_OK, "encoding");
    return file;
}

/* What the index says and a digest does not: names, dtypes, shapes, places, and by target rank, alpha and scale. */
static buffer make_json(const model *m)
{
    buffer text = {0};
    size_t at = 0;

    append_text(&text, "{\"tensors\":{");
    for (size_t i = 0; i < m->n; i++)
        for (uint32_t k = 0; k < 2; k++, at += TENSOR_SIZE) {
            const uint64_t *shape = m->sites[i].factors[k].tensor.shape;
            append_text(&text,
                        "%s\"%s.lora_%c\":{\"dtype\":\"BF16\",\"shape\":[%" PRIu64 ",%" PRIu64 "],\"data_offsets\":[%zu,%zu]}",
                        i || k ? "," : "", m->sites[i].target, "AB"[k], shape[0], shape[1], at, at + TENSOR_SIZE);
        }
    append_text(&text, "},\"sites\":{");
    for (size_t i = 0; i < m->n; i++)
        append_text(&text, "%s\"%s\":{\"rank\":%d,\"alpha\":%d,\"scale\":2}", i ? "," : "", m->sites[i].target, RANK, 2 * RANK);
    append_text(&text, "}}");
    return text;
}

static void write_file(const char *path, const buffer *b)
{
    FILE *file = fopen(path, "wb");

    require(file && fwrite(b->bytes, 1, b->size, file) == b->size && fclose(file) == 0, path);
}

/* --- what is timed: each way maps its file, does its work, and leaves freeing out --- */

typedef struct subject {
    const model *model;
    const char *lora, *json; /* paths */
    lf_map map;
    lorafmt_index *index;
    cJSON *root;
} subject;

static void open_index(subject *s, bool defer_digest)
{
    const lorafmt_index_options options = {.struct_size = sizeof options, .defer_digest = defer_digest};

    require(lf_map_open(s->lora, false, UINT64_MAX, &s->map, NULL) == LORAFMT_OK, s->lora);
    require(lorafmt_index_open(s->map.bytes, s->map.size, &options, &s->index, NULL) == LORAFMT_OK, "opening failed");
}

static void find_all(const subject *s)
{
    size_t at = 0;

    for (size_t i = 0; i < s->model->n; i++)
        require(lorafmt_index_find(s->index, 0, s->model->targets[i], &at, NULL) == LORAFMT_OK, "not found");
}

static void read_all(const subject *s)
{
    lorafmt_factor factors[LORAFMT_MAX_FACTORS];
    lorafmt_site site;
    size_t at = 0;

    for (size_t i = 0; i < s->model->n; i++) {
        require(lorafmt_index_find(s->index, 0, s->model->targets[i], &at, NULL) == LORAFMT_OK, "not found");
        require(lorafmt_index_site(s->index, at, &site, factors, NULL) == LORAFMT_OK, "a bad site");
        require(site.n_factors == 2 && factors[1].tensor.data, "another site");
    }
}

static void lora_open(subject *s)
{
    open_index(s, false);
}

static void lora_open_deferred(subject *s)
{
    open_index(s, true);
}

static void lora_read(subject *s)
{
    open_index(s, false);
    read_all(s);
}

static void lora_find_deferred(subject *s)
{
    open_index(s, true);
    find_all(s);
}

static void lora_read_deferred(subject *s)
{
    open_index(s, true);
    read_all(s);
}

static void json_parse(subject *s)
{
    require(lf_map_open(s->json, false, UINT64_MAX, &s->map, NULL) == LORAFMT_OK, s->json);
    s->root = cJSON_ParseWithLength((const char *)s->map.bytes, (size_t)s->map.size);
    require(s->root != NULL, "parsing failed");
}

/* cJSON goes through an object from its first member on. */
static void json_find(subject *s)
{
    const cJSON *tensors, *sites;
    char name[MAX_TARGET + 16];

    json_parse(s);
    tensors = cJSON_GetObjectItemCaseSensitive(s->root, "tensors");
    sites = cJSON_GetObjectItemCaseSensitive(s->root, "sites");
    for (size_t i = 0; i < s->model->n; i++) {
        require(cJSON_GetObjectItemCaseSensitive(sites, s->model->targets[i]) != NULL, "not found");
        for (unsigned k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%s.lora_%c", s->model->targets[i], "AB"[k]);
            require(cJSON_GetObjectItemCaseSensitive(tensors, name) != NULL, "not found");
        }
    }
}

typedef struct work {
    const char *name;
    void (*run)(subject *);
    int rounds;                             /* the slow one has fewer */
    double seconds[ROUNDS], ratios[ROUNDS]; /* of parsing as JSON in the same round to this */
    size_t n_allocations;
} work;

static void timed(subject *s, work *w, int round)
{
    struct timespec begin, end;

    n_allocations = 0;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    w->run(s);
    clock_gettime(CLOCK_MONOTONIC, &end);
    w->n_allocations = n_allocations;
    w->seconds[round] = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    lorafmt_index_free(s->index);
    cJSON_Delete(s->root);
    lf_map_close(&s->map);
    s->index = NULL;
    s->root = NULL;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report(const model *m, work *w, bool json)
{
    const int n = w->rounds;

    qsort(w->seconds, (size_t)n, sizeof w->seconds[0], compare);
    qsort(w->ratios, (size_t)n, sizeof w->ratios[0], compare);
    printf(
        json
            ? "{\"tensors\":%zu,\"way\":\"%s\",\"us\":[%.1f,%.1f,%.1f],\"json_over_this\":[%.3f,%.3f,%.3f],\"allocations\":%zu}\n"
            : "%6zu tensors  %-36s %9.1f us (%.1f .. %.1f)  %7.2f x as fast (%.2f .. %.2f)  %zu allocations\n",
        2 * m->n, w->name, 1e6 * w->seconds[n / 2], 1e6 * w->seconds[0], 1e6 * w->seconds[n - 1], w->ratios[n / 2], w->ratios[0],
        w->ratios[n - 1], w->n_allocations);
}

static void measure(const char *folder, size_t n_sites, bool json)
{
    work works[] = {
        {.name = "cJSON: parse", .run = json_parse, .rounds = ROUNDS},
        {.name = "open, digest verified", .run = lora_open, .rounds = ROUNDS},
        {.name = "open, digest verified; read all", .run = lora_read, .rounds = ROUNDS},
        {.name = "open, digest deferred", .run = lora_open_deferred, .rounds = ROUNDS},
        {.name = "open, digest deferred; find all", .run = lora_find_deferred, .rounds = ROUNDS},
        {.name = "open, digest deferred; read all", .run = lora_read_deferred, .rounds = ROUNDS},
        {.name = "cJSON: parse; find all", .run = json_find, .rounds = 3},
    };
    const size_t n = sizeof works / sizeof works[0];
    char lora[256], text[256];
    model m;
    subject s = {.model = &m, .lora = lora, .json = text};
    buffer file, table;

    snprintf(lora, sizeof lora, "%s/a.lora", folder);
    snprintf(text, sizeof text, "%s/a.json", folder);
    make_model(&m, n_sites);
    file = make_lora(&m);
    table = make_json(&m);
    write_file(lora, &file);
    write_file(text, &table);
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < n; i++)
            if (round < works[i].rounds) {
                timed(&s, &works[i], round);
                works[i].ratios[round] = works[0].seconds[round] / works[i].seconds[round];
            }
    for (size_t i = 0; i < n; i++)
        report(&m, &works[i], json);
    remove(lora);
    remove(text);
    free(file.bytes);
    free(table.bytes);
    free_model(&m);
}

int main(int argc, char **argv)
{
    char folder[] = "/tmp/bench_lookup.XXXXXX";
    const bool json = argc > 1 && strcmp(argv[1], "--json") == 0;

    require(mkdtemp(folder) != NULL, folder);
    cJSON_InitHooks(&(cJSON_Hooks){count_and_malloc, free});
    measure(folder, 5000, json);
    measure(folder, 224, json);
    require(rmdir(folder) == 0, folder);
    return 0;
}
