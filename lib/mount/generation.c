/* SPDX-License-Identifier: MIT */
/* What one reading of the manifest shows. */
#include "format/base/error.h"
#include "lib/mount/mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct opener {
    lorakit_mount *mount;
    lk_generation *generation;
    const char *scenario; /* at hand */
} opener;

static void pass_problem(void *ctx, const char *adapter, const char *target, const char *text)
{
    const opener *o = ctx;
    const lorakit_mount_options *options = &o->mount->options;

    if (options->problem)
        options->problem(options->problem_ctx, o->scenario, adapter, target, text);
}

static void pass_left_out(void *ctx, const char *file, const char *why)
{
    const opener *o = ctx;

    lk_mount_report(o->mount, "%s is not shown: %s", file, why);
}

/* Of all that are shown only the first says what is left out of the base's directory, since it is so in all. */
static lorafmt_status open_image(opener *o, lk_shown *shown, lorafmt_dtype dtype, lorafmt_error *err)
{
    const bool first = o->generation->n_shown == 1 && o->generation->number == 0;
    const lorafmt_image_options options = {.struct_size = sizeof options,
                                           .dtype = dtype,
                                           .report = first ? pass_left_out : NULL,
                                           .report_ctx = o};

    return lorafmt_image_open(lorakit_scenarios_model(o->generation->set), shown->view, &options, &shown->image, err);
}

static lorafmt_status show_base(opener *o, lorafmt_error *err)
{
    lk_shown *shown = &o->generation->shown[o->generation->n_shown++];

    shown->name = "base";
    LF_TRY(lorafmt_bind(lorafmt_model_base(lorakit_scenarios_model(o->generation->set)), NULL, 0, NULL, &shown->view, err));
    return open_image(o, shown, 0, err);
}

static lorafmt_status show_scenario(opener *o, size_t i, lorafmt_error *err)
{
    const lorakit_scenario *scenario = &lorakit_scenarios_manifest(o->generation->set)->scenarios[i];
    lk_shown *shown = &o->generation->shown[o->generation->n_shown++];

    shown->name = o->scenario = scenario->name;
    LF_TRY(lorakit_scenarios_bind(o->generation->set, i, pass_problem, o, &shown->view, err));
    return open_image(o, shown, scenario->dtype, err);
}

static lorafmt_status show_all(opener *o, lorafmt_error *err)
{
    const lorakit_manifest *manifest = lorakit_scenarios_manifest(o->generation->set);
    size_t one;

    o->generation->shown = calloc(manifest->n_scenarios + 1, sizeof *o->generation->shown);
    if (!o->generation->shown)
        return lf_no_memory(err);
    if (o->mount->scenario) {
        LF_TRY(lorakit_manifest_find(manifest, o->mount->scenario, &one, err));
        return show_scenario(o, one, err);
    }
    LF_TRY(show_base(o, err));
    for (size_t i = 0; i < manifest->n_scenarios; i++)
        LF_TRY(show_scenario(o, i, err));
    return LORAFMT_OK;
}

static int compare_shown(const void *a, const void *b)
{
    return strcmp(((const lk_shown *)a)->name, ((const lk_shown *)b)->name);
}

/* The number says generation and node, so that it never comes again; that of the root is 1. */
static void set_node(lk_generation *g, lk_node *node, lk_shown *shown, size_t file)
{
    node->generation = g;
    node->shown = shown;
    node->file = file;
    node->number = (g->number + 1) << 32 | (uint64_t)(node - g->nodes);
}

static lorafmt_status make_nodes(lk_generation *g, lorafmt_error *err)
{
    size_t n = 0;
    lk_node *node;

    for (size_t i = 0; i < g->n_shown; i++)
        n += 1 + lorafmt_image_n_files(g->shown[i].image);
    if (!(node = g->nodes = calloc(n, sizeof *g->nodes)))
        return lf_no_memory(err);
    for (size_t i = 0; i < g->n_shown; i++) {
        lk_shown *shown = &g->shown[i];
        shown->directory = node++;
        shown->files = node;
        set_node(g, shown->directory, shown, LK_DIRECTORY);
        for (size_t f = 0; f < lorafmt_image_n_files(shown->image); f++)
            set_node(g, node++, shown, f);
    }
    return LORAFMT_OK;
}

static lorafmt_status fill(opener *o, lorafmt_error *err)
{
    lorakit_mount *mount = o->mount;
    lk_generation *g = o->generation;
    const lorakit_scenarios_options options = {.struct_size = sizeof options,
                                               .in_memory = true,
                                               .progress = mount->options.progress,
                                               .progress_ctx = mount->options.progress_ctx,
                                               .limits = mount->options.limits,
                                               .paranoid = mount->options.paranoid};
    const char *base;

    clock_gettime(CLOCK_REALTIME_COARSE, &g->since); // which files get theirs of
    LF_TRY(lorakit_scenarios_open(mount->manifest, &options, &g->set, err));
    LF_TRY(show_all(o, err));
    base = lorakit_scenarios_manifest(g->set)->base.path;
    if (stat(base, &g->model))
        return lf_fail_os(err, errno, base, "cannot look at the base");
    qsort(g->shown, g->n_shown, sizeof *g->shown, compare_shown);
    return make_nodes(g, err);
}

lorafmt_status lk_generation_open(lorakit_mount *mount, uint64_t number, lk_generation **out, lorafmt_error *err)
{
    lk_generation *g = calloc(1, sizeof *g);
    opener o = {.mount = mount, .generation = g};
    lorafmt_status st;

    *out = NULL;
    if (!g)
        return lf_no_memory(err);
    g->number = number;
    g->n_known = 1;
    if ((st = fill(&o, err)))
        lk_generation_free(g);
    else
        *out = g;
    return st;
}

void lk_generation_free(lk_generation *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_shown; i++) {
        lorafmt_image_free(g->shown[i].image);
        lorafmt_view_free(g->shown[i].view);
    }
    free(g->shown);
    free(g->nodes);
    lorakit_scenarios_free(g->set);
    free(g);
}

static int compare_name(const void *name, const void *shown)
{
    return strcmp(name, ((const lk_shown *)shown)->name);
}

lk_shown *lk_generation_find(const lk_generation *g, const char *name)
{
    return bsearch(name, g->shown, g->n_shown, sizeof *g->shown, compare_name);
}

lk_node *lk_shown_find(const lk_shown *shown, const char *name)
{
    size_t low = 0, high = lorafmt_image_n_files(shown->image);

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(name, lorafmt_image_get_file(shown->image, middle)->name);
        if (order == 0)
            return &shown->files[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

lk_generation *lk_generation_take(lorakit_mount *mount)
{
    lk_generation *g;

    pthread_mutex_lock(&mount->lock);
    g = mount->current;
    g->n_known++;
    pthread_mutex_unlock(&mount->lock);
    return g;
}

void lk_generation_hold(lorakit_mount *mount, lk_generation *g)
{
    pthread_mutex_lock(&mount->lock);
    g->n_known++;
    pthread_mutex_unlock(&mount->lock);
}

static void unlink_generation(lorakit_mount *mount, const lk_generation *g)
{
    lk_generation **at = &mount->generations;

    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
}

void lk_generation_release(lorakit_mount *mount, lk_generation *g, uint64_t n)
{
    bool last;

    pthread_mutex_lock(&mount->lock);
    g->n_known -= n;
    last = g->n_known == 0;
    if (last)
        unlink_generation(mount, g);
    pthread_mutex_unlock(&mount->lock);
    if (last)
        lk_generation_free(g);
}

/* The kernel would keep what it knows of a generation as long as nobody asks for its names again. */
static void have_forgotten(const lorakit_mount *mount, const lk_generation *g)
{
    const lk_shown *root = mount->scenario ? &g->shown[0] : NULL;
    const size_t n = root ? lorafmt_image_n_files(root->image) : g->n_shown;

    for (size_t i = 0; i < n; i++) {
        const char *name = root ? lorafmt_image_get_file(root->image, i)->name : g->shown[i].name;
        fuse_lowlevel_notify_inval_entry(mount->session, FUSE_ROOT_ID, name, strlen(name));
    }
}

void lk_generation_publish(lorakit_mount *mount, lk_generation *g)
{
    lk_generation *before;

    pthread_mutex_lock(&mount->lock);
    before = mount->current;
    g->next = mount->generations;
    mount->current = mount->generations = g;
    pthread_mutex_unlock(&mount->lock);
    if (!before)
        return;
    have_forgotten(mount, before);
    lk_generation_release(mount, before, 1);
}
