/* SPDX-License-Identifier: MIT */
/*
 * A pool: what is asked for is what the file holds, loaded once for all who ask; the budget is kept, and who is forgotten is who a
 * list in the order of use says. With a number of seconds on the command line, four threads go on for as long, once with each kind of
 * access, on 1 000 adapters of 1 MiB with room for 64.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lorafmt/lorafmt.h"
#include "tests/adapters.h"
#include "tests/failing_allocations.h"
#include "tests/no_syncing.h"
#include "tests/temporary_directory.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- files --- */

enum { ROWS = 24, COLS = 40, RANK = 3, DATA_SIZE = 4 * RANK * (ROWS + COLS) };

static float numbers[RANK * COLS];

/* An adapter of one site, with what makes it unlike others as its scale and in its data. */
static lorafmt_adapter make_adapter(const char *target, unsigned kind, float mark, lorafmt_factor factors[3], lorafmt_site *site)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        numbers[i] = mark + (float)i;
    *site = test_low_rank(target, kind, RANK, COLS, ROWS, numbers, numbers, factors);
    site->alpha = RANK * (double)mark;
    site->scale = mark;
    return test_adapter("a", site, 1);
}

static void pack(const lorafmt_adapter *adapter, const char *path, const lorafmt_pack_options *options)
{
    lorafmt_error err;

    if (lorafmt_pack(&adapter, 1, path, options, &err) != LORAFMT_OK)
        fail_msg("%s: %s", path, err.text);
}

static const lorafmt_pack_options replacing = {.struct_size = sizeof replacing, .force = true};

static void make(const char *path, float mark)
{
    lorafmt_factor factors[3];
    lorafmt_site site;
    const lorafmt_adapter adapter = make_adapter("q.weight", LORAFMT_KIND_LINEAR, mark, factors, &site);

    pack(&adapter, path, &replacing);
}

/* Two in one file, in which their A and B are equal tensors. */
static void make_two(const char *path)
{
    lorafmt_factor factors[3];
    lorafmt_site site;
    const lorafmt_adapter one = make_adapter("q.weight", LORAFMT_KIND_LINEAR, 7, factors, &site);
    const lorafmt_adapter *both[2] = {&one, &one};
    lorafmt_adapter other = one;
    lorafmt_site more[2] = {site, site};

    more[1].target = "r.weight";
    other.name = "b";
    other.sites = more;
    other.n_sites = 2;
    both[1] = &other;
    assert_int_equal(lorafmt_pack(both, 2, path, NULL, NULL), LORAFMT_OK);
}

static void make_dora(const char *path)
{
    lorafmt_factor factors[3];
    lorafmt_site site;
    const lorafmt_adapter adapter = make_adapter("q.weight", LORAFMT_KIND_LINEAR, 2, factors, &site);

    factors[2] = (lorafmt_factor){LORAFMT_ROLE_MAGNITUDE, test_tensor(LORAFMT_F32, ROWS, 0, numbers)};
    site.n_factors = 3;
    pack(&adapter, path, &replacing);
}

static uint64_t file_size(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

static uint64_t index_size(const char *path)
{
    lorafmt_container_info info;
    lorafmt_source *source;

    assert_int_equal(lorafmt_source_open(path, NULL, &source, NULL), LORAFMT_OK);
    assert_true(lorafmt_source_container(source, &info));
    lorafmt_source_free(source);
    return info.index_size;
}

/* A byte that a digest covers. */
static void damage(const char *path)
{
    static const uint8_t other[4] = {1, 2, 3, 4};
    FILE *f = fopen(path, "r+b");

    assert_non_null(f);
    assert_int_equal(fseek(f, -4, SEEK_END), 0); // where the data of the last tensor is
    assert_int_equal(fwrite(other, 1, sizeof other, f), sizeof other);
    assert_int_equal(fclose(f), 0);
}

/* --- pools --- */

static lorafmt_pool *pool;

static void pool_init(uint64_t budget, const lorafmt_base *base)
{
    const lorafmt_pool_options options = {.struct_size = sizeof options, .budget = budget, .base = base};

    assert_int_equal(lorafmt_pool_new(&options, &pool, NULL), LORAFMT_OK);
}

/* Room for n of the small adapters. */
static void pool_for(unsigned n)
{
    make("size", 1);
    pool_init(n * (DATA_SIZE + index_size("size")), NULL);
}

static lorafmt_pool_statistics statistics(void)
{
    lorafmt_pool_statistics s;

    lorafmt_pool_get_statistics(pool, &s);
    return s;
}

static double mark_of(const lorafmt_pooled *p)
{
    return lorafmt_pooled_adapter(p)->sites[0].scale;
}

static lorafmt_pooled *acquire(const char *path)
{
    lorafmt_pooled *p;
    lorafmt_error err;

    if (lorafmt_pool_acquire(pool, path, &p, &err) != LORAFMT_OK)
        fail_msg("%s: %s", path, err.text);
    return p;
}

/* Acquired and released; was it in memory? */
static bool touch(const char *path)
{
    const uint64_t before = statistics().n_hits;

    lorafmt_pool_release(acquire(path));
    return statistics().n_hits > before;
}

static void assert_refused(const char *path, lorafmt_status wanted, const char *text)
{
    lorafmt_pooled *p;
    lorafmt_error err = {0};

    assert_int_equal(lorafmt_pool_acquire(pool, path, &p, &err), wanted);
    assert_null(p);
    assert_int_equal(err.status, wanted);
    assert_true(err.file[0] && strncmp(path, err.file, strlen(err.file)) == 0); // or what is before its #
    if (!strstr(err.text, text))
        fail_msg("'%s' is not in '%s'", text, err.text);
}

/* --- what an adapter takes --- */

static void assert_measure(const char *path, const lorafmt_source_options *options, uint64_t wanted)
{
    uint64_t size;

    assert_int_equal(lorafmt_source_measure(path, options, &size, NULL), LORAFMT_OK);
    assert_int_equal(size, wanted);
}

static void test_measure(void **state)
{
    static const lorafmt_source_options in_memory = {.struct_size = sizeof in_memory, .in_memory = true},
                                        one = {.struct_size = sizeof one, .adapter = "a"},
                                        other = {.struct_size = sizeof other, .adapter = "x"};
    static const lorafmt_pack_options split = {.struct_size = sizeof split, .codec = LORAFMT_CODEC_SPLIT, .dtype = LORAFMT_BF16};
    lorafmt_factor factors[3];
    lorafmt_site site;
    const lorafmt_adapter adapter = make_adapter("q.weight", LORAFMT_KIND_LINEAR, 1, factors, &site);
    static float many[RANK * 100000];
    uint64_t size = 1;

    (void)state;
    make("a.lora", 1);
    assert_measure("a.lora", NULL, DATA_SIZE + index_size("a.lora"));
    assert_measure("a.lora", &in_memory, file_size("a.lora"));
    make_two("two.lora");
    assert_measure("two.lora", NULL, DATA_SIZE + index_size("two.lora"));
    assert_measure("two.lora", &one, DATA_SIZE + index_size("two.lora"));
    assert_int_equal(lorafmt_source_measure("two.lora", &other, &size, NULL), LORAFMT_NOT_FOUND);
    assert_int_equal(size, 0);
    assert_int_equal(lorafmt_unpack(&adapter, "peft", false, NULL), LORAFMT_OK);
    size = file_size("peft/adapter_model.safetensors") + file_size("peft/adapter_config.json");
    assert_measure("peft", NULL, size);
    assert_measure("peft/adapter_model.safetensors", NULL, size);
    factors[0].tensor = test_tensor(LORAFMT_F32, RANK, 100000, many); // zeros, so that compressing pays
    pack(&adapter, "split.lora", &split);
    assert_true(file_size("split.lora") < 2 * RANK * 100000);
    assert_measure("split.lora", NULL, 2 * RANK * (100000 + ROWS) + index_size("split.lora"));
    assert_int_equal(lorafmt_source_measure("none", NULL, &size, NULL), LORAFMT_NOT_FOUND);
}

/* --- found and forgotten --- */

static void test_loaded_once(void **state)
{
    lorafmt_pooled *first, *second;
    lorafmt_pool_statistics s;

    (void)state;
    make("a.lora", 5);
    pool_for(2);
    first = acquire("a.lora");
    second = acquire("a.lora");
    assert_ptr_equal(first, second);
    assert_true(mark_of(first) == 5);
    assert_int_equal(lorafmt_source_n_adapters(lorafmt_pooled_source(first)), 1);
    assert_null(lorafmt_pooled_view(first));
    lorafmt_pool_release(first);
    lorafmt_pool_release(second);
    lorafmt_pool_release(NULL);
    s = statistics();
    assert_true(s.n_hits == 1 && s.n_misses == 1 && s.n_loads == 1 && s.n_failures == 0 && s.n_adapters == 1);
    assert_int_equal(s.held, DATA_SIZE + index_size("a.lora"));
    assert_int_equal(s.most_held, s.held);
    lorafmt_pool_free(pool);
    lorafmt_pool_free(NULL);
}

static void test_one_of_several(void **state)
{
    lorafmt_pooled *a, *b;

    (void)state;
    make_two("two.lora");
    pool_init(1 << 20, NULL);
    a = acquire("two.lora#a");
    b = acquire("two.lora#b");
    assert_int_equal(lorafmt_pooled_adapter(a)->n_sites, 1);
    assert_int_equal(lorafmt_pooled_adapter(b)->n_sites, 2);
    assert_refused("two.lora", LORAFMT_MISUSE, "holds 2 adapters");
    assert_refused("two.lora#c", LORAFMT_NOT_FOUND, "no adapter 'c'");
    make("two.lora#b", 9); // a file of that name comes first
    lorafmt_pool_release(b);
    b = acquire("two.lora#b");
    assert_true(mark_of(b) == 9);
    lorafmt_pool_release(a);
    lorafmt_pool_release(b);
    lorafmt_pool_free(pool);
}

/* What a list in the order of use says, with room for n. */
typedef struct list {
    size_t n, used;
    size_t items[64];
} list;

static bool list_touch(list *l, size_t item)
{
    size_t at = 0;
    bool found;

    while (at < l->used && l->items[at] != item)
        at++;
    found = at < l->used;
    if (!found && l->used < l->n)
        l->used++;
    if (!found)
        at = l->used - 1;
    memmove(&l->items[1], &l->items[0], at * sizeof l->items[0]);
    l->items[0] = item;
    return found;
}

static void test_least_recently_used_goes(void **state)
{
    enum { N = 20, ROOM = 6 };
    list l = {.n = ROOM};
    uint64_t n_misses = 0;
    char path[32];

    (void)state;
    for (size_t i = 0; i < N; i++) {
        snprintf(path, sizeof path, "%zu.lora", i);
        make(path, (float)i);
    }
    pool_for(ROOM);
    for (int i = 0; i < 400; i++) {
        const size_t item = (size_t)rand() % N * (size_t)rand() % N; // some more often than others
        const bool wanted = list_touch(&l, item);
        snprintf(path, sizeof path, "%zu.lora", item);
        assert_int_equal(touch(path), wanted);
        n_misses += !wanted;
    }
    assert_int_equal(statistics().n_loads, n_misses);
    assert_int_equal(statistics().n_evictions, n_misses - ROOM);
    assert_int_equal(statistics().n_adapters, ROOM);
    lorafmt_pool_free(pool);
}

static void test_what_is_held_stays(void **state)
{
    lorafmt_pooled *a, *b;
    char text[64];

    (void)state;
    make("a.lora", 1);
    make("b.lora", 2);
    make("c.lora", 3);
    pool_for(2);
    a = acquire("a.lora");
    b = acquire("b.lora");
    snprintf(text, sizeof text, "takes %llu bytes, and of the %llu", (unsigned long long)statistics().held / 2,
             (unsigned long long)statistics().held);
    assert_refused("c.lora", LORAFMT_LIMIT, text);
    assert_refused("c.lora", LORAFMT_LIMIT, "are of adapters that are held or pinned");
    assert_int_equal(statistics().n_refusals, 2);
    assert_true(mark_of(a) == 1 && mark_of(b) == 2);
    lorafmt_pool_release(a);
    assert_false(touch("c.lora")); // in place of a
    assert_true(touch("b.lora"));
    lorafmt_pool_release(b);
    lorafmt_pool_free(pool);
    pool_init(DATA_SIZE, NULL);
    assert_refused("a.lora", LORAFMT_LIMIT, "more than the budget");
    assert_int_equal(lorafmt_pool_acquire_within(pool, "a.lora", UINT32_MAX, &a, NULL), LORAFMT_LIMIT); // at once
    lorafmt_pool_free(pool);
}

static void test_pinned(void **state)
{
    (void)state;
    make("a.lora", 1);
    make("b.lora", 2);
    make("c.lora", 3);
    pool_for(2);
    assert_int_equal(lorafmt_pool_pin(pool, "a.lora", NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_pool_pin(pool, "a.lora", NULL), LORAFMT_OK);
    assert_true(!touch("b.lora") && !touch("c.lora") && !touch("b.lora") && touch("a.lora"));
    assert_int_equal(lorafmt_pool_pin(pool, "b.lora", NULL), LORAFMT_OK);
    assert_refused("c.lora", LORAFMT_LIMIT, "held or pinned");
    assert_int_equal(lorafmt_pool_pin(pool, "c.lora", NULL), LORAFMT_LIMIT);
    lorafmt_pool_unpin(pool, "c.lora");
    lorafmt_pool_unpin(pool, "a.lora");
    assert_true(!touch("c.lora") && touch("b.lora") && !touch("a.lora"));
    assert_true(touch("b.lora")); // is pinned still
    lorafmt_pool_forget(pool, "b.lora");
    assert_true(!touch("b.lora") && !touch("c.lora") && !touch("a.lora") && !touch("b.lora")); // is not
    lorafmt_pool_free(pool);
}

static void test_forgotten_by_name(void **state)
{
    lorafmt_pooled *old, *new;

    (void)state;
    make("a.lora", 1);
    pool_for(2);
    old = acquire("a.lora");
    lorafmt_pool_forget(pool, "a.lora");
    lorafmt_pool_forget(pool, "none");
    new = acquire("a.lora");
    assert_ptr_not_equal(old, new);
    assert_int_equal(statistics().n_adapters, 2);
    lorafmt_pool_release(old);
    assert_int_equal(statistics().n_adapters, 1);
    lorafmt_pool_release(new);
    lorafmt_pool_forget(pool, "a.lora");
    assert_int_equal(statistics().held, 0);
    lorafmt_pool_free(pool);
}

static void test_a_file_that_changes(void **state)
{
    lorafmt_pooled *old, *new;

    (void)state;
    make("a.lora", 1);
    pool_for(2);
    assert_int_equal(lorafmt_pool_pin(pool, "a.lora", NULL), LORAFMT_OK);
    old = acquire("a.lora");
    make("a.lora", 2);
    new = acquire("a.lora");
    assert_true(mark_of(old) == 1 && mark_of(new) == 2);
    lorafmt_pool_release(old);
    lorafmt_pool_release(new);
    assert_int_equal(statistics().n_adapters, 1);
    assert_int_equal(remove("a.lora"), 0);
    assert_refused("a.lora", LORAFMT_NOT_FOUND, "cannot open");
    assert_int_equal(statistics().held, 0);
    make("a.lora", 3);
    make("b.lora", 4);
    make("c.lora", 5);
    assert_true(!touch("a.lora") && !touch("b.lora") && !touch("c.lora") && touch("a.lora")); // is pinned still
    lorafmt_pool_free(pool);
}

static void test_a_directory_that_changes(void **state)
{
    lorafmt_factor factors[3];
    lorafmt_site site;
    const lorafmt_adapter adapter = make_adapter("q.weight", LORAFMT_KIND_LINEAR, 1, factors, &site);
    FILE *config;

    (void)state;
    assert_int_equal(lorafmt_unpack(&adapter, "peft", false, NULL), LORAFMT_OK);
    pool_init(1 << 20, NULL);
    assert_true(!touch("peft") && touch("peft"));
    config = fopen("peft/adapter_config.json", "a");
    assert_non_null(config);
    fputs("\n", config);
    fclose(config);
    assert_true(!touch("peft") && touch("peft"));
    assert_true(!touch("peft/adapter_model.safetensors") && touch("peft/adapter_model.safetensors"));
    lorafmt_pool_free(pool);
}

static void test_a_failure_is_not_remembered(void **state)
{
    char long_path[5000];

    (void)state;
    pool_for(1);
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(lorafmt_pool_pin(pool, long_path, NULL), LORAFMT_IO);
    assert_refused("a.lora", LORAFMT_NOT_FOUND, "cannot open");
    make("a.lora", 1);
    damage("a.lora");
    assert_refused("a.lora", LORAFMT_CORRUPT, "digest");
    assert_int_equal(statistics().n_failures, 3);
    assert_int_equal(statistics().held, 0);
    make("a.lora", 1);
    assert_false(touch("a.lora"));
    lorafmt_pool_free(pool);
}

/* --- several threads --- */

/* Of waiting for another thread. */
static void a_moment(void)
{
    const struct timespec t = {.tv_nsec = 1000000};

    nanosleep(&t, NULL);
}

static void until_misses(uint64_t n)
{
    while (statistics().n_misses < n)
        a_moment();
}

typedef struct caller {
    pthread_t thread;
    const char *path;
    uint32_t milliseconds;
    lorafmt_status status;
    lorafmt_pooled *pooled;
    lorafmt_error err;
} caller;

static void *call(void *arg)
{
    caller *c = arg;

    c->status = lorafmt_pool_acquire_within(pool, c->path, c->milliseconds, &c->pooled, &c->err);
    return NULL;
}

static void start(caller *c, const char *path, uint32_t milliseconds)
{
    *c = (caller){.path = path, .milliseconds = milliseconds};
    assert_int_equal(pthread_create(&c->thread, NULL, call, c), 0);
}

static void finish(caller *c)
{
    assert_int_equal(pthread_join(c->thread, NULL), 0);
}

static void test_waiting_for_room(void **state)
{
    lorafmt_pooled *a;
    caller c;

    (void)state;
    make("a.lora", 1);
    make("b.lora", 2);
    pool_for(1);
    a = acquire("a.lora");
    start(&c, "b.lora", 1);
    finish(&c);
    assert_int_equal(c.status, LORAFMT_LIMIT);
    assert_null(c.pooled);
    assert_non_null(strstr(c.err.text, "held or pinned"));
    start(&c, "b.lora", UINT32_MAX);
    until_misses(3);
    assert_refused("b.lora", LORAFMT_LIMIT, "held or pinned"); // who does not wait is not made to
    lorafmt_pool_release(a);
    finish(&c);
    assert_int_equal(c.status, LORAFMT_OK);
    assert_true(mark_of(c.pooled) == 2);
    lorafmt_pool_release(c.pooled);
    lorafmt_pool_free(pool);
}

/* A base that can be read when it is let. */
static const lorafmt_base_tensor tensor = {"q.weight", LORAFMT_F32, 2, {ROWS, COLS}, 4 * ROWS *COLS};
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static lorafmt_status of_reading;

static lorafmt_status read_base(void *ctx, size_t i, uint64_t offset, size_t size, void *dst, lorafmt_error *err)
{
    const float one = 1;

    (void)ctx, (void)i, (void)offset;
    pthread_mutex_lock(&gate);
    for (size_t at = 0; at + 4 <= size; at += 4)
        memcpy((char *)dst + at, &one, 4);
    if (of_reading && err) {
        err->status = of_reading;
        strcpy(err->text, "the base is gone");
    }
    pthread_mutex_unlock(&gate);
    return of_reading;
}

static const lorafmt_base base = {.struct_size = sizeof base, .n_tensors = 1, .tensors = &tensor, .read = read_base};

/* DoRA reads the base, so that loading takes as long as the test wants. */
static void test_others_go_on_while_one_is_loaded(void **state)
{
    static const lorafmt_status outcomes[] = {LORAFMT_IO, LORAFMT_OK};
    caller c[3];

    (void)state;
    make_dora("dora.lora");
    make("a.lora", 1);
    for (size_t i = 0; i < 2; i++) {
        pool_init(1 << 20, &base);
        pthread_mutex_lock(&gate);
        of_reading = outcomes[i];
        for (size_t k = 0; k < 3; k++)
            start(&c[k], "dora.lora", 0);
        until_misses(3);
        assert_true(!touch("a.lora") && touch("a.lora"));
        pthread_mutex_unlock(&gate);
        for (size_t k = 0; k < 3; k++) {
            finish(&c[k]);
            assert_int_equal(c[k].status, outcomes[i]);
            assert_ptr_equal(c[k].pooled, c[0].pooled);
            if (outcomes[i])
                assert_string_equal(c[k].err.text, "the base is gone");
            lorafmt_pool_release(c[k].pooled);
        }
        assert_int_equal(statistics().n_loads, 1 + !outcomes[i]);
        lorafmt_pool_free(pool);
    }
}

/* What is forgotten while it is loaded is not found by the next. */
static void test_forgotten_while_it_is_loaded(void **state)
{
    caller c;

    (void)state;
    make_dora("dora.lora");
    pool_init(1 << 20, &base);
    pthread_mutex_lock(&gate);
    start(&c, "dora.lora", 0);
    while (!statistics().held)
        a_moment();
    lorafmt_pool_forget(pool, "dora.lora");
    pthread_mutex_unlock(&gate);
    finish(&c);
    assert_int_equal(c.status, LORAFMT_OK);
    assert_false(touch("dora.lora"));
    lorafmt_pool_release(c.pooled);
    lorafmt_pool_free(pool);
}

/* A file that is replaced while it is loaded: what is handed out is the new one. */
static void test_replaced_while_it_is_loaded(void **state)
{
    caller c;

    (void)state;
    make_dora("a.lora");
    pool_init(1 << 20, &base);
    pthread_mutex_lock(&gate);
    start(&c, "a.lora", 0);
    while (!statistics().held)
        a_moment();
    make("a.lora", 5);
    pthread_mutex_unlock(&gate);
    finish(&c);
    assert_int_equal(c.status, LORAFMT_OK);
    assert_true(mark_of(c.pooled) == 5);
    assert_int_equal(statistics().n_adapters, 1);
    lorafmt_pool_release(c.pooled);
    lorafmt_pool_free(pool);
}

static void test_prefetch(void **state)
{
    (void)state;
    make("a.lora", 1);
    make("b.lora", 2);
    pool_for(1);
    assert_int_equal(lorafmt_pool_prefetch(pool, "a.lora", NULL), LORAFMT_OK);
    while (statistics().n_loads < 1)
        a_moment();
    assert_true(touch("a.lora"));
    assert_int_equal(lorafmt_pool_prefetch(pool, "none.lora", NULL), LORAFMT_OK);
    while (statistics().n_failures < 1)
        a_moment();
    make("none.lora", 3);
    assert_false(touch("none.lora"));
    assert_int_equal(lorafmt_pool_pin(pool, "none.lora", NULL), LORAFMT_OK);
    assert_int_equal(lorafmt_pool_prefetch(pool, "b.lora", NULL), LORAFMT_OK);
    while (statistics().n_refusals < 1)
        a_moment();
    assert_int_equal(statistics().n_misses, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(lorafmt_pool_prefetch(pool, "b.lora", NULL), LORAFMT_OK); // and left at that
    lorafmt_pool_free(pool);
}

static void test_held_when_the_pool_goes(void **state)
{
    lorafmt_pooled *a, *b;

    (void)state;
    make("a.lora", 1);
    make("b.lora", 2);
    pool_for(2);
    a = acquire("a.lora");
    b = acquire("b.lora");
    lorafmt_pool_free(pool);
    lorafmt_pool_release(a);
    assert_true(mark_of(b) == 2);
    lorafmt_pool_release(b);
}

/* --- with a base --- */

static void test_bound(void **state)
{
    lorafmt_factor factors[3];
    lorafmt_update update;
    const lorafmt_view *view;
    lorafmt_adapter adapter;
    lorafmt_pooled *p;
    lorafmt_site site;

    (void)state;
    of_reading = LORAFMT_OK;
    make("a.lora", 3);
    make_dora("dora.lora");
    adapter = make_adapter("other.weight", LORAFMT_KIND_LINEAR, 1, factors, &site);
    pack(&adapter, "other.lora", NULL);
    adapter = make_adapter("q.weight", LORAFMT_KIND_EMBEDDING, 1, factors, &site);
    factors[0].tensor = test_tensor(LORAFMT_F32, RANK, ROWS, numbers);
    factors[1].tensor = test_tensor(LORAFMT_F32, COLS, RANK, numbers);
    pack(&adapter, "embedding.lora", NULL);
    pool_init(1 << 20, &base);
    p = acquire("a.lora");
    view = lorafmt_pooled_view(p);
    assert_int_equal(lorafmt_view_n_updates(view, 0), 1);
    update = lorafmt_view_get_update(view, 0, 0);
    assert_true(update.rank == RANK && update.scale == 3 && update.factors == NULL);
    assert_ptr_equal(update.a, lorafmt_pooled_adapter(p)->sites[0].factors[0].tensor.data);
    lorafmt_pool_release(p);
    p = acquire("dora.lora");
    assert_non_null(lorafmt_view_get_update(lorafmt_pooled_view(p), 0, 0).factors);
    lorafmt_pool_release(p);
    assert_refused("other.lora", LORAFMT_MISMATCH, "");
    assert_refused("embedding.lora", LORAFMT_UNSUPPORTED, "embedding");
    assert_int_equal(statistics().n_adapters, 2);
    lorafmt_pool_free(pool);
}

static void assert_misuse(const lorafmt_pool_options *options, const char *field)
{
    lorafmt_error err = {0};
    lorafmt_pool *none;

    assert_int_equal(lorafmt_pool_new(options, &none, &err), LORAFMT_MISUSE);
    assert_null(none);
    assert_string_equal(err.field, field);
}

static void test_bad_options(void **state)
{
    const lorafmt_source_options chosen = {.struct_size = sizeof chosen, .adapter = "a"}, old = {0};
    const lorafmt_bind_options checks = {.struct_size = sizeof checks, .check_only = true}, older = {0};
    lorafmt_base bad = base;
    lorafmt_pool_options o = {.struct_size = sizeof o};

    (void)state;
    assert_misuse(NULL, "");
    assert_misuse(&o, "budget");
    o.budget = 1;
    o.source = &chosen;
    assert_misuse(&o, "source.adapter");
    o.source = &old;
    assert_misuse(&o, "struct_size");
    o.source = NULL;
    o.bind = &checks;
    assert_misuse(&o, "bind");
    o.base = &base;
    assert_misuse(&o, "bind.check_only");
    o.bind = &older;
    assert_misuse(&o, "struct_size");
    o.bind = NULL;
    bad.struct_size = 1;
    o.base = &bad;
    assert_misuse(&o, "struct_size");
    o.struct_size = 1;
    assert_misuse(&o, "struct_size");
}

/* --- memory --- */

/* All that a caller's thread does. */
static lorafmt_status use_pool(const void *path, lorafmt_error *err)
{
    static const lorafmt_source_options one_thread = {.struct_size = sizeof one_thread, .n_threads = 1};
    const lorafmt_pool_options options = {.struct_size = sizeof options, .budget = 1 << 20, .base = &base, .source = &one_thread};
    lorafmt_pooled *p = NULL, *again = NULL;
    lorafmt_status st = lorafmt_pool_new(&options, &pool, err);

    assert_int_equal(pool != NULL, st == LORAFMT_OK);
    if (!st) {
        st = lorafmt_pool_acquire(pool, path, &p, err);
        assert_int_equal(p != NULL, st == LORAFMT_OK);
        assert_int_equal(statistics().n_adapters, p != NULL);
    }
    if (!st)
        st = lorafmt_pool_pin(pool, path, err);
    if (!st) {
        const long before = n_calls;
        st = lorafmt_pool_acquire(pool, path, &again, err);
        assert_int_equal(n_calls, before); // a hit does not allocate
    }
    lorafmt_pool_release(p);
    lorafmt_pool_release(again);
    lorafmt_pool_free(pool);
    return st;
}

static void test_memory(void **state)
{
    lorafmt_factor factors[3];
    lorafmt_site site;
    const lorafmt_adapter adapter = make_adapter("q.weight", LORAFMT_KIND_LINEAR, 1, factors, &site);

    (void)state;
    of_reading = LORAFMT_OK;
    make_dora("dora.lora");
    make("a.lora", 1);
    refuse_each(use_pool, "dora.lora");
    make_two("two.lora");
    assert_int_equal(lorafmt_unpack(&adapter, "peft", false, NULL), LORAFMT_OK);
    refuse_each(use_pool, "a.lora");
    refuse_each(use_pool, "two.lora#a");
    refuse_each(use_pool, "peft");
}

static lorafmt_status prefetch(const void *path, lorafmt_error *err)
{
    return lorafmt_pool_prefetch(pool, path, err);
}

static void test_memory_of_prefetching(void **state)
{
    (void)state;
    pool_for(1);
    make("a.lora", 1);
    assert_int_equal(lorafmt_pool_pin(pool, "a.lora", NULL), LORAFMT_OK); // so that nothing is left to do
    refuse_each(prefetch, "a.lora");
    lorafmt_pool_free(pool);
    pool_for(1);
    n_calls = 0;
    fail_at = 0;
    assert_int_equal(lorafmt_pool_prefetch(pool, "a.lora", NULL), LORAFMT_NO_MEMORY);
    fail_at = -1;
    lorafmt_pool_free(pool);
}

/* --- at random, by four threads --- */

enum { N_THREADS = 4, MANY_SITES = 4, MANY_RANK = 8, MOST = 1000 };

static double seconds; // 0 = a few hundred adapters each

/* How many, of which size, how many of which there is room for. Both have the same share in memory. */
typedef struct scale {
    size_t n, width, room;
} scale;

static double weights[MOST]; // sums of what each is asked for

typedef struct client {
    pthread_t thread;
    unsigned seed;
    size_t n_adapters, n_calls, n_wrong;
    double end;
} client;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t draw(client *c)
{
    const double x = (double)rand_r(&c->seed) / RAND_MAX * weights[c->n_adapters - 1];
    size_t i = 0;

    while (i + 1 < c->n_adapters && weights[i] < x)
        i++;
    return i;
}

static bool is_adapter(const lorafmt_pooled *p, size_t i)
{
    const lorafmt_update update = lorafmt_view_get_update(lorafmt_pooled_view(p), MANY_SITES - 1, 0);
    float first;

    memcpy(&first, update.a, sizeof first);
    return first == (float)(i + MANY_SITES) && update.scale == (float)(i + 1);
}

static void *ask_on(void *arg)
{
    client *c = arg;
    lorafmt_pooled *p;
    char path[32];

    while (seconds > 0 ? now() < c->end : c->n_calls < 200) {
        const size_t i = draw(c), next = draw(c);
        if (c->n_calls++ % 16 == 0) {
            snprintf(path, sizeof path, "%zu.lora", next);
            c->n_wrong += lorafmt_pool_prefetch(pool, path, NULL) != LORAFMT_OK;
        }
        snprintf(path, sizeof path, "%zu.lora", i);
        if (lorafmt_pool_acquire(pool, path, &p, NULL) == LORAFMT_OK) {
            c->n_wrong += !is_adapter(p, i);
            lorafmt_pool_release(p);
        } else
            c->n_wrong++;
    }
    return NULL;
}

static void make_many(const scale *s, lorafmt_base_tensor tensors[MANY_SITES])
{
    static const char *const names[MANY_SITES] = {"layers.0", "layers.1", "layers.2", "layers.3"};
    float *factor = calloc(MANY_RANK * s->width + MANY_SITES, sizeof *factor);
    lorafmt_factor factors[MANY_SITES][2];
    lorafmt_site sites[MANY_SITES];
    const lorafmt_adapter adapter = test_adapter("a", sites, MANY_SITES);
    char path[32];

    assert_non_null(factor);
    for (size_t k = 0; k < MANY_SITES; k++) {
        const lorafmt_base_tensor t = {names[k], LORAFMT_F32, 2, {s->width, s->width}, 4 * s->width * s->width};
        tensors[k] = t;
    }
    for (size_t i = 0; i < s->n; i++) {
        for (size_t k = 0; k < MANY_SITES; k++)
            factor[k] = (float)(i + k + 1); // none is equal to another, or it would be in the file once
        for (size_t k = 0; k < MANY_SITES; k++) {
            sites[k] =
                test_low_rank(names[k], LORAFMT_KIND_LINEAR, MANY_RANK, s->width, s->width, factor + k, factor + k, factors[k]);
            sites[k].scale = (double)(i + 1);
            sites[k].alpha = MANY_RANK * (double)(i + 1);
        }
        snprintf(path, sizeof path, "%zu.lora", i);
        pack(&adapter, path, NULL);
    }
    free(factor);
}

static void run_clients(const scale *s, uint64_t budget, const char *what)
{
    client clients[N_THREADS];
    lorafmt_pool_statistics st;
    size_t n_calls_made = 0;

    for (unsigned i = 0; i < N_THREADS; i++) {
        clients[i] = (client){.seed = i + 1, .n_adapters = s->n, .end = now() + seconds};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, ask_on, &clients[i]), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_int_equal(clients[i].n_wrong, 0);
        n_calls_made += clients[i].n_calls;
    }
    st = statistics();
    assert_int_equal(st.n_hits + st.n_misses, n_calls_made);
    assert_true(st.most_held <= budget && st.n_evictions > 0);
    assert_int_equal(st.n_failures + st.n_refusals, 0);
    if (seconds > 0)
        print_message("%s: %zu calls, %.1f %% hits, %llu loads, %llu evictions, at most %llu of %llu bytes\n", what, n_calls_made,
                      100 * (double)st.n_hits / (double)n_calls_made, (unsigned long long)st.n_loads,
                      (unsigned long long)st.n_evictions, (unsigned long long)st.most_held, (unsigned long long)budget);
}

/* All alike, and the i-th as often as 1 / i. */
static void test_at_random(void **state)
{
    const scale s = seconds > 0 ? (scale){MOST, 4032, 64} : (scale){100, 40, 6};
    const uint64_t small = s.room * (MANY_SITES * 2 * MANY_RANK * 4 * s.width + 1400);
    const uint64_t budget = seconds > 0 ? UINT64_C(64) << 20 : small;
    lorafmt_base_tensor tensors[MANY_SITES];
    const lorafmt_base many = {.struct_size = sizeof many, .n_tensors = MANY_SITES, .tensors = tensors};

    (void)state;
    make_many(&s, tensors);
    for (int zipf = 0; zipf < 2; zipf++) {
        for (size_t i = 0; i < s.n; i++)
            weights[i] = (i ? weights[i - 1] : 0) + (zipf ? 1 / (double)(i + 1) : 1);
        pool_init(budget, &many);
        run_clients(&s, budget, zipf ? "Zipf" : "uniform");
        lorafmt_pool_free(pool);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_measure),
        IN_DIRECTORY(test_loaded_once),
        IN_DIRECTORY(test_one_of_several),
        IN_DIRECTORY(test_least_recently_used_goes),
        IN_DIRECTORY(test_what_is_held_stays),
        IN_DIRECTORY(test_pinned),
        IN_DIRECTORY(test_forgotten_by_name),
        IN_DIRECTORY(test_a_file_that_changes),
        IN_DIRECTORY(test_a_directory_that_changes),
        IN_DIRECTORY(test_a_failure_is_not_remembered),
        IN_DIRECTORY(test_waiting_for_room),
        IN_DIRECTORY(test_others_go_on_while_one_is_loaded),
        IN_DIRECTORY(test_forgotten_while_it_is_loaded),
        IN_DIRECTORY(test_replaced_while_it_is_loaded),
        IN_DIRECTORY(test_prefetch),
        IN_DIRECTORY(test_held_when_the_pool_goes),
        IN_DIRECTORY(test_bound),
        cmocka_unit_test(test_bad_options),
        IN_DIRECTORY(test_memory),
        IN_DIRECTORY(test_memory_of_prefetching),
        IN_DIRECTORY(test_at_random),
    };

    seconds = argc > 1 ? strtod(argv[1], NULL) : 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
