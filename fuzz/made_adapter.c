/* SPDX-License-Identifier: MIT */
#include "fuzz/made_adapter.h"

#include "format/base/arena.h"
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/container/container.h"
#include "lib/adapter/adapter.h"

#include <math.h>
#include <string.h>

#define MAX_SITES 4

/* A tensor of bytes that are any numbers, small ones or zero. */
static void fill(lorafmt_tensor *t, script *s, lf_arena *arena)
{
    const uint8_t how = next_byte(s);
    uint8_t *data;

    require(lf_tensor_measure(t->dtype, t->n_dims, t->shape, &t->size) && t->size < 1u << 16);
    require((data = lf_arena_alloc(arena, (size_t)t->size, 1)) != NULL);
    for (size_t i = 0; i < t->size; i++)
        data[i] = (uint8_t)(how < 16 ? 0 : how < 200 ? (how * (i + 1)) & 0x3f : how * (i + 1));
    t->data = data;
}

static void add_factor(lorafmt_site *site, unsigned role, lorafmt_dtype dtype, uint32_t n_dims, const uint64_t *shape, script *s,
                       lf_arena *arena)
{
    lorafmt_factor *f = (lorafmt_factor *)(uintptr_t)&site->factors[site->n_factors++];

    *f = (lorafmt_factor){.role = (uint16_t)role, .tensor = {.dtype = dtype, .n_dims = n_dims}};
    memcpy(f->tensor.shape, shape, n_dims * sizeof *shape);
    fill(&f->tensor, s, arena);
}

static void add_low_rank(lorafmt_site *site, lorafmt_dtype dtype, script *s, lf_arena *arena)
{
    const uint64_t n_experts = site->kind == LORAFMT_KIND_EXPERTS ? 1 + next_below(s, 3) : 1, in = 1 + next_below(s, 40),
                   out = 1 + next_below(s, 12);
    const uint32_t n_kernel =
        site->kind >= LORAFMT_KIND_CONV1D && site->kind <= LORAFMT_KIND_CONV3D ? site->kind - LORAFMT_KIND_CONV1D + 1u : 0;
    const bool dora = next_below(s, 4) == 3;
    uint64_t a[5] = {0, in, 1, 1, 1}, b[5] = {n_experts * out, 0, 1, 1, 1}, magnitude;

    site->rank = 1 + (uint32_t)next_below(s, 5);
    site->scaling = (uint8_t)(1 + next_below(s, 3));
    site->alpha = site->scaling == LORAFMT_SCALING_EXPLICIT ? 0 : 1 + (double)next_below(s, 9);
    site->scale = site->scaling == LORAFMT_SCALING_EXPLICIT ? 0.5 : lf_scale_of(site->scaling, site->alpha, site->rank);
    a[0] = n_experts * site->rank;
    b[1] = site->rank;
    for (uint32_t d = 0; d < n_kernel; d++)
        a[2 + d] = 1 + next_below(s, 3);
    add_factor(site, LORAFMT_ROLE_A, dtype, 2 + n_kernel, a, s, arena);
    add_factor(site, LORAFMT_ROLE_B, dtype, 2 + n_kernel, b, s, arena);
    magnitude = site->kind == LORAFMT_KIND_EMBEDDING ? out : b[0];
    if (dora)
        add_factor(site, LORAFMT_ROLE_MAGNITUDE, dtype, 1, &magnitude, s, arena);
}

static void add_whole(lorafmt_site *site, lorafmt_dtype dtype, script *s, lf_arena *arena)
{
    const uint64_t shape[2] = {1 + next_below(s, 4), 1 + next_below(s, 9)};

    add_factor(site, LORAFMT_ROLE_VALUE, dtype, 2 - (site->kind != LORAFMT_KIND_ROWS && next_below(s, 2)), shape, s, arena);
    if (site->kind == LORAFMT_KIND_ADDITIVE) {
        site->scaling = LORAFMT_SCALING_EXPLICIT;
        site->scale = 2;
    }
    if (site->kind == LORAFMT_KIND_ROWS) {
        add_factor(site, LORAFMT_ROLE_ROW_INDEX, LORAFMT_I64, 1, shape, s, arena);
        for (size_t i = 0; i < shape[0]; i++)
            lf_store_u64le((uint8_t *)(uintptr_t)site->factors[1].tensor.data + 8 * i, 2 * i + 1);
    }
}

static lorafmt_site make_site(size_t i, script *s, lf_arena *arena)
{
    static const char *const targets[] = {"model.embed_tokens.weight", "t0.weight", "t1.weight", "transformer.t2.weight"};
    static const lorafmt_dtype dtypes[] = {LORAFMT_F32, LORAFMT_BF16, LORAFMT_F16, LORAFMT_F64};
    lorafmt_site site = {.target = targets[i], .kind = (uint16_t)(1 + next_below(s, LORAFMT_KIND_EXPERTS + 1))};
    const lorafmt_dtype dtype = dtypes[next_below(s, 4)];

    require((site.factors = lf_arena_alloc(arena, 3, sizeof *site.factors)) != NULL);
    if (site.kind == LORAFMT_KIND_LINEAR || site.kind == LORAFMT_KIND_EXPERTS)
        site.orientation = (uint8_t)next_below(s, 3);
    if (lf_kind_is_low_rank(site.kind))
        add_low_rank(&site, dtype, s, arena);
    else
        add_whole(&site, dtype, s, arena);
    return site;
}

static lorafmt_status append(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    made_adapter *made = ctx;
    (void)err;

    require((made->bytes = realloc(made->bytes, made->size + size)) != NULL);
    memcpy(made->bytes + made->size, data, size);
    made->size += size;
    return LORAFMT_OK;
}

static bool encode(made_adapter *out, script *s)
{
    lf_arena arena = {0};
    lorafmt_site sites[MAX_SITES];
    const lorafmt_adapter adapter = {.name = "a",
                                     .base_name = "",
                                     .base_revision = "",
                                     .n_sites = 1 + next_below(s, MAX_SITES),
                                     .sites = sites};
    const lorafmt_adapter *list[] = {&adapter};
    uint64_t size;
    bool done;

    for (size_t i = 0; i < adapter.n_sites; i++)
        sites[i] = make_site(i, s, &arena);
    done = lf_container_encode(list, 1, 6, (lorafmt_codec)next_below(s, 2), append, out, &size, NULL) == LORAFMT_OK;
    lf_arena_free(&arena);
    return done;
}

void made_adapter_open(made_adapter *out, script *s)
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .n_threads = 1};
    lorafmt_memory memory = {0};

    if (!encode(out, s))
        return;
    memory.bytes = out->bytes;
    memory.size = out->size;
    if (lorafmt_source_open_memory(&memory, &options, &out->source, NULL) == LORAFMT_OK)
        out->adapter = lorafmt_source_adapter(out->source, 0);
}

void made_adapter_close(made_adapter *made)
{
    lorafmt_source_free(made->source);
    free(made->bytes);
}
