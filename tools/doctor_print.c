/* SPDX-License-Identifier: MIT */
/* A diagnosis, for people and for programs. */
#include "tools/doctor.h"
#include "tools/json_out.h"
#include "tools/page.h"
#include "tools/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *verdict(level worst)
{
    switch (worst) {
    case LEVEL_NOTE:
        return "sound";
    case LEVEL_SUSPICIOUS:
        return "suspicious";
    case LEVEL_BROKEN:
        return "broken";
    }
    return "broken";
}

static const char *level_name(level l)
{
    return l == LEVEL_NOTE ? "note" : verdict(l);
}

/* "FILE: FIELD at 0xOFFSET", without a file that is the one that was asked about. */
static void print_place(const page *p, const diagnosis *d, const lorafmt_error *err)
{
    lorafmt_error place = *err;
    char line[sizeof place.file + sizeof place.field + 64];
    size_t n;

    if (!strcmp(place.file, d->path))
        place.file[0] = '\0';
    place.text[0] = '\0';
    n = lorafmt_error_format(&place, line, sizeof line);
    while (n && (line[n - 1] == ' ' || line[n - 1] == ':'))
        line[--n] = '\0';
    if (n)
        page_field_wrapped(p, "where", line);
}

static void print_finding(const page *p, const diagnosis *d, const finding *f)
{
    char text[sizeof f->cause + sizeof f->error.text + 64];

    putchar('\n');
    snprintf(text, sizeof text, "%s: %s", f->cause, f->error.text);
    page_field_wrapped(p, f->level == LEVEL_BROKEN ? "wrong" : f->level == LEVEL_SUSPICIOUS ? "suspicious" : "note", text);
    print_place(p, d, &f->error);
    page_field_wrapped(p, "means", f->meaning);
}

static void print_adapter(const page *p, const char *label, const adapter_part *a)
{
    char line[sizeof a->name + sizeof a->damaged + 96];

    if (!a->name[0])
        snprintf(line, sizeof line, "an adapter of which nothing can be read");
    else if (a->is_readable)
        snprintf(line, sizeof line, "adapter %s: whole, %zu sites", a->name, a->n_sites);
    else if (a->is_counted)
        snprintf(line, sizeof line, "adapter %s: not readable, %zu of %zu sites intact%s%s", a->name, a->n_intact, a->n_sites,
                 a->damaged[0] ? "; damaged: " : "", a->damaged);
    else
        snprintf(line, sizeof line, "adapter %s: not readable, %zu sites", a->name, a->n_sites);
    page_field_wrapped(p, label, line);
}

static void print_rest(const page *p, const diagnosis *d)
{
    char line[96];

    if (d->n_adapters || d->n_generations)
        putchar('\n');
    for (size_t i = 0; i < d->n_adapters; i++)
        print_adapter(p, i ? "" : "intact", &d->adapters[i]);
    if (d->n_more_adapters) {
        snprintf(line, sizeof line, "and %zu more adapters, not looked at", d->n_more_adapters);
        page_field(p, "", line);
    }
    for (size_t i = 0; i < d->n_generations; i++) {
        const generation_part *g = &d->generations[i];
        snprintf(line, sizeof line, "generation %" PRIu64 ": %s, %zu adapter%s", g->number, g->is_intact ? "whole" : "damaged",
                 g->n_adapters, g->n_adapters == 1 ? "" : "s");
        page_field(p, i ? "" : "earlier", line);
    }
    if (d->n_more_generations) {
        snprintf(line, sizeof line, "and %zu older ones, not looked at", d->n_more_generations);
        page_field(p, "", line);
    }
}

/* Commands stand by themselves, on a line as long as it takes. */
static void print_advice(const page *p, const diagnosis *d)
{
    if (d->n_advice)
        putchar('\n');
    for (size_t i = 0; i < d->n_advice; i++)
        if (d->advice[i].is_command)
            print_line(stdout, "%*s%s", FIELD_INDENT + 2, "", d->advice[i].text);
        else
            page_field_wrapped(p, i ? "" : "do", d->advice[i].text);
}

void doctor_print(const diagnosis *d)
{
    const page p = page_of_stdout();
    char line[64];

    page_line(&p, STYLE_TITLE, "%s: %s", d->path, verdict(d->level));
    page_field_wrapped(&p, "it is", d->is);
    if (d->checked[0])
        page_field_wrapped(&p, "checked", d->checked);
    for (size_t i = 0; i < d->n_findings; i++)
        print_finding(&p, d, &d->findings[i]);
    if (d->n_more_findings) {
        snprintf(line, sizeof line, "and %zu more", d->n_more_findings);
        page_field(&p, "", line);
    }
    print_rest(&p, d);
    print_advice(&p, d);
}

static void json_finding(json_out *j, const finding *f)
{
    json_object(j, NULL);
    json_text(j, "level", level_name(f->level));
    json_text(j, "cause", f->cause);
    json_text(j, "status", f->error.status ? lorafmt_status_name(f->error.status) : NULL);
    json_text(j, "file", f->error.file[0] ? f->error.file : NULL);
    json_text(j, "field", f->error.field[0] ? f->error.field : NULL);
    if (f->error.offset == LORAFMT_NO_OFFSET)
        json_null(j, "offset");
    else
        json_u64(j, "offset", f->error.offset);
    json_text(j, "text", f->error.text);
    json_text(j, "meaning", f->meaning);
    json_object_end(j);
}

static void json_adapter(json_out *j, const adapter_part *a)
{
    json_object(j, NULL);
    json_text(j, "name", a->name[0] ? a->name : NULL);
    json_bool(j, "readable", a->is_readable);
    json_u64(j, "n_sites", a->n_sites);
    if (a->is_counted)
        json_u64(j, "n_intact", a->n_intact);
    else
        json_null(j, "n_intact");
    json_text(j, "damaged", a->damaged[0] ? a->damaged : NULL);
    json_object_end(j);
}

static void json_generation(json_out *j, const generation_part *g)
{
    json_object(j, NULL);
    json_u64(j, "generation", g->number);
    json_u64(j, "n_adapters", g->n_adapters);
    json_bool(j, "intact", g->is_intact);
    json_object_end(j);
}

static void json_advice(json_out *j, const advice *a)
{
    json_object(j, NULL);
    json_bool(j, "command", a->is_command);
    json_text(j, "text", a->text);
    json_object_end(j);
}

void doctor_json(const diagnosis *d)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", d->path);
    json_text(&j, "verdict", verdict(d->level));
    json_text(&j, "kind", subject_name(d->subject));
    json_text(&j, "is", d->is);
    json_text(&j, "checked", d->checked[0] ? d->checked : NULL);
    json_array(&j, "findings");
    for (size_t i = 0; i < d->n_findings; i++)
        json_finding(&j, &d->findings[i]);
    json_array_end(&j);
    json_u64(&j, "n_more_findings", d->n_more_findings);
    json_array(&j, "adapters");
    for (size_t i = 0; i < d->n_adapters; i++)
        json_adapter(&j, &d->adapters[i]);
    json_array_end(&j);
    json_u64(&j, "n_more_adapters", d->n_more_adapters);
    json_array(&j, "earlier");
    for (size_t i = 0; i < d->n_generations; i++)
        json_generation(&j, &d->generations[i]);
    json_array_end(&j);
    json_u64(&j, "n_more_earlier", d->n_more_generations);
    json_array(&j, "advice");
    for (size_t i = 0; i < d->n_advice; i++)
        json_advice(&j, &d->advice[i]);
    json_array_end(&j);
    json_object_end(&j);
}
